#!/usr/bin/env bash
# Looks up every package of the image in PyPI's list of known vulnerabilities, with pip-audit.
# The exit status is 1 when one is known, 3 when the list cannot be reached from here.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The address of one release: an index that answers for projects but has no entry for releases knows no vulnerabilities.
release="$(sed -n 's|^requests==\([^ ]*\).*|requests/\1|p' deploy/runpod/locks/packages.txt)"
service="${PYPI:-https://pypi.org}/pypi/$release/json"
if ! .venv/bin/python -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=20)' "$service" 2>/dev/null; then
  echo "PyPI's list of known vulnerabilities cannot be reached from here: nothing was looked up." >&2
  exit 3
fi
# --strict: a package that cannot be looked up is an error, not a pass.
for lock in packages torch-cu130; do
  .venv/bin/python -m uv tool run --quiet pip-audit@2.10.1 --strict --disable-pip --require-hashes --progress-spinner off \
    --requirement "deploy/runpod/locks/$lock.txt"
done
