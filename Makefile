# Every target makes its own environment from the pins. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt
PYTEST := $(BIN)/python -m pytest
# Pages with generated parts.
COGGED := README.md docs/commands.md docs/json.md
# Side by side, file by file, what takes longest first; see tests/conftest.py. Three keep two cores busy: tests of
# deployments and servers spend much of their time waiting.
PROCESSES ?= 3
SIDE_BY_SIDE = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
# Even where the environment forbids it, Python keeps what it compiles: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

CONTAINERS ?= tests/containers
# For `sbom`: docker or podman, and the image.
ENGINE ?= docker
IMAGE ?= bulk-ocr:0.1.0
# What an image may be built with; see EXTRAS in the Dockerfile.
EXTRAS := aws outputs catalogue otel docker dask ray local
HASHES := deployments/docker/hashes.txt

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-ceph test-machines test-containers test-wheel mutants check clean docs docs-check hashes sbom audit

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
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

PYTHONS ?= $(PYTHON)
test-wheel:  ## the wheel, built and used in empty environments: make test-wheel PYTHONS="python3.11 python3.13"
	tests/wheel.sh $(PYTHONS)

mutants: $(VENV)/test  ## faults put into the core, to see whether a test fails; see tests/README.md
	$(BIN)/python -m tests.mutants $(ARGS)

docs: $(VENV)/test  ## bring the help texts in the documentation up to date
	$(BIN)/cog -r -I . $(COGGED)

docs-check: $(VENV)/test  ## whether they are
	$(BIN)/cog --check -I . $(COGGED)

hashes: $(VENV)/audit  ## the pins with hashes that images are built of; after every change of constraints.txt
	printf '%s\n' pip hatchling prefect-redis | $(BIN)/uv pip compile --quiet pyproject.toml - $(EXTRAS:%=--extra %) \
		--constraint constraints.txt --python-version 3.11 --universal --only-binary :all: --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file $(HASHES)

sbom: $(VENV)/audit  ## sbom.json, the bill of materials of an image (CycloneDX): make sbom IMAGE=bulk-ocr:0.1.0 ENGINE=podman
	$(ENGINE) run --rm --interactive --network none --read-only $(IMAGE) python - < deployments/docker/installed.py > sbom.txt
	$(BIN)/cyclonedx-py requirements sbom.txt --pyproject pyproject.toml --output-reproducible --output-file sbom.json
	rm sbom.txt

audit: $(VENV)/audit  ## known vulnerabilities of the pins; asks a database on the Internet, package by package
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement $(HASHES) $(ARGS)

check: $(VENV)/test docs-check  ## linters, formatting, import direction, types, help texts, error codes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(PYTEST) -q tests/test_errors.py tests/test_faults.py

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

$(VENV)/audit: $(VENV)/made pyproject.toml
	$(INSTALL) --editable '.[audit]'
	touch $@

clean:  ## remove the environment and the local stack's data
	rm -rf $(VENV) .local-stack
