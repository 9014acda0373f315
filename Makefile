# make run    every file of test_inputs/ through the real service, audio into output/
# make serve  the HTTP server with the playground on PORT
#             Both speak with MODEL: demo (a small built-in voice), tiny (random weights: noise), a hub id or a folder.
# make test   every test, in JOBS processes
# make test-fast  without those marked slow: a minute or so on two cores
# make check  lint, format and types;  make bench: speed beside transformers
# make soak   mixed traffic at both doors for SECONDS: nothing lost, nothing kept
# make openapi  docs/openapi.json anew, after a change of routes or fields
# make image  the container image, built without Docker and tested: as root, on Debian
# make audit  known vulnerabilities of what the image installs;  make locks: its lock files anew
# Set-up happens once, in .venv, and again when the pins change.

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
MODEL ?= demo
OUTPUT ?= output
INPUTS ?= test_inputs/*.json
PORT ?= 8000
JOBS ?= 3
SECONDS ?= 600

PY := $(VENV)/bin/python
STAMP := $(VENV)/.set-up
# A file's tests stay in one process, as they share servers and engines. Three processes keep two cores busy, as tests
# wait for others. tests/conftest.py puts the slow files first, so that none of them is left alone at the end.
IN_PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Python keeps its bytecode in the virtual environment: without it every process compiles thousands of modules again.
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/pycache
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run serve test test-fast check bench soak openapi image audit locks set-up clean
.DEFAULT_GOAL := run

set-up: $(STAMP)

$(STAMP): requirements-runpod.txt deploy/runpod/constraints.txt pyproject.toml scripts/set_up.sh
	@PYTHON="$(PYTHON)" bash scripts/set_up.sh "$(VENV)"
	@touch $(STAMP)

run: $(STAMP)
	HIGGS_AUDIO_MODEL_ID="$(MODEL)" $(PY) -m serverless.local_run --output "$(OUTPUT)" $(INPUTS)

serve: $(STAMP)
	HIGGS_AUDIO_MODEL_ID="$(MODEL)" PORT="$(PORT)" $(PY) -m serverless.http_server

test: $(STAMP)
	$(PY) -m pytest $(IN_PARALLEL)

test-fast: $(STAMP)
	$(PY) -m pytest $(IN_PARALLEL) -m "not slow"

check: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	@if [ -x $(VENV)/bin/hadolint ]; then $(VENV)/bin/hadolint deploy/runpod/Dockerfile; fi

bench: $(STAMP)
	$(PY) -m benchmarks

soak: $(STAMP)
	$(PY) -m tests.soak --seconds $(SECONDS) --model tiny

openapi: $(STAMP)
	$(PY) -m scripts.openapi > docs/openapi.json

image: $(STAMP)
	deploy/image/build.sh

audit: $(STAMP)
	deploy/image/audit.sh

# Those that need PyPI alone; the others by name, where download.pytorch.org can be reached: deploy/image/lock.py cu128
locks: $(STAMP)
	$(PY) deploy/image/lock.py

clean:
	rm -rf $(VENV) $(OUTPUT)
