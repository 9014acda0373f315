#!/usr/bin/env bash
# Makes the virtual environment named by the first argument and installs the pinned requirements into it.
# uv does the installing where it can be had, plain pip otherwise.
set -euo pipefail

venv="${1:?usage: scripts/set_up.sh VENV}"
python="${PYTHON:-python3}"
uv_version="0.13.8"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed; $("$python" --version) is what '$python' gives. Set PYTHON=/path/to/python3.11." >&2
  exit 1
}

if [ ! -x "$venv/bin/python" ]; then
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null && ! command -v uv >/dev/null; then
    # Debian ships venv apart from python3.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv
    else
      echo "This python cannot make virtual environments: install python3-venv (apt-get install python3-venv)." >&2
      exit 1
    fi
  fi
  if command -v uv >/dev/null; then uv venv -q --seed --python "$python" "$venv"; else "$python" -m venv "$venv"; fi
fi

wanted=(-c deploy/runpod/constraints.txt -e ".[dev]")
pip=("$venv/bin/python" -m pip install -q --disable-pip-version-check)
if ! "$venv/bin/python" -m uv --version >/dev/null 2>&1; then
  "${pip[@]}" "uv==$uv_version" || true
fi
if ! "$venv/bin/python" -m uv pip install -q --python "$venv/bin/python" "${wanted[@]}"; then
  echo "uv is not there or failed; pip installs instead, which takes longer." >&2
  "${pip[@]}" "${wanted[@]}"
fi
