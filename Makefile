# Every target makes its own environment from the pins. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt
PYTEST := $(BIN)/python -m pytest
# Pages with generated parts.
COGGED := docs/commands.md
# Side by side on two processes, file by file, what takes longest first; see tests/conftest.py.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

CONTAINERS ?= tests/containers

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-ceph test-machines test-containers mutants check clean docs docs-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="…" hands arguments on: make test ARGS="-k kill"'

demo: $(VENV)/local  ## OCR sample scans on a local stack
	$(BIN)/bulk-ocr demo $(ARGS)

quick: $(VENV)/test  ## the tests that need no server and little time
	$(PYTEST) $(SIDE_BY_SIDE) -m "not servers and not slow" $(ARGS)

test: $(VENV)/test  ## all tests but the three below
	$(PYTEST) $(SIDE_BY_SIDE) $(ARGS)

test-ceph: $(VENV)/test  ## the tests of steps and store on Ceph's S3 gateway; says which packages it needs
	$(PYTEST) --s3 ceph tests/store tests/steps $(ARGS)

test-machines: $(VENV)/test  ## several workers on PostgreSQL, Redis and two API servers; says which packages it needs
	$(PYTEST) --machines tests/machines $(ARGS)

test-containers: $(VENV)/test  ## images, compose, Docker pool, pod and ECS task on podman; skipped where there is none
	$(PYTEST) --containers --timeout 3600 $(CONTAINERS) $(ARGS)  # the first test builds images

mutants: $(VENV)/test  ## faults put into the core, to see whether a test fails; see tests/README.md
	$(BIN)/python -m tests.mutants $(ARGS)

docs: $(VENV)/test  ## bring the help texts in the documentation up to date
	$(BIN)/cog -r -I . $(COGGED)

docs-check: $(VENV)/test  ## whether they are
	$(BIN)/cog --check -I . $(COGGED)

check: $(VENV)/test docs-check  ## linters, formatting, import direction, types, help texts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

$(VENV)/made: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip
	touch $@

$(VENV)/local: $(VENV)/made pyproject.toml
	$(INSTALL) --editable '.[local]'
	touch $@

$(VENV)/test: $(VENV)/made pyproject.toml
	$(INSTALL) --editable '.[test]'
	touch $@ $(VENV)/local

clean:  ## remove the environment and the local stack's data
	rm -rf $(VENV) .local-stack
