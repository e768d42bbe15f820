# Every target makes its own environment from the pins. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt
PYTEST := $(BIN)/python -m pytest
# Side by side on two processes, file by file, what takes longest first; see tests/conftest.py.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-ceph test-machines mutants check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="…" hands arguments on: make test ARGS="-k kill"'

demo: $(VENV)/local  ## OCR sample scans on a local stack
	$(BIN)/bulk-ocr demo $(ARGS)

quick: $(VENV)/test  ## the tests that need no server and little time
	$(PYTEST) $(SIDE_BY_SIDE) -m "not servers and not slow" $(ARGS)

test: $(VENV)/test  ## all tests but the two below
	$(PYTEST) $(SIDE_BY_SIDE) $(ARGS)

test-ceph: $(VENV)/test  ## the tests of steps and store on Ceph's S3 gateway; says which packages it needs
	$(PYTEST) --s3 ceph tests/store tests/steps $(ARGS)

test-machines: $(VENV)/test  ## several workers on PostgreSQL, Redis and two API servers; says which packages it needs
	$(PYTEST) --machines tests/machines $(ARGS)

mutants: $(VENV)/test  ## faults put into the core, to see whether a test fails; see tests/README.md
	$(BIN)/python -m tests.mutants $(ARGS)

check: $(VENV)/test  ## linters, formatting, import direction, types
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
