# Two commands do all the set-up: `make demo` and `make test`. Each makes its own environment from the pins.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt

.PHONY: demo test test-ceph test-machines check clean

demo: $(VENV)/local  ## OCR sample scans on a local stack
	$(BIN)/bulk-ocr demo $(ARGS)

# Side by side by file: the fixtures of a file are started once. In their order, since the last files are short.
test: $(VENV)/test  ## all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-ceph: $(VENV)/test  ## the tests of steps and store on Ceph's S3 gateway; says which packages it needs
	$(BIN)/python -m pytest --s3 ceph tests/store tests/steps $(ARGS)

test-machines: $(VENV)/test  ## several workers on PostgreSQL, Redis and two API servers; says which packages it needs
	$(BIN)/python -m pytest --machines tests/machines $(ARGS)

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

clean:
	rm -rf $(VENV) .local-stack
