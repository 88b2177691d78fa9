# `make demo` and `make test` start from nothing but Python 3.11 and make; .venv is built once and again when its pins change.
#
# Python under another name:    make PYTHON=/opt/python3.11/bin/python3 demo
# Another build of torch:       make TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130" demo
# CPU wheels from pytorch.org:  make TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu" demo

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0
WORKERS ?= 2

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test check lint audit docs env clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST))

demo: env  ## compare six latent spaces on the embedded simulator
	$(BIN)/rslwm compare demo --out runs/demo

test: env  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: env  ## what continuous integration runs
	$(MAKE) --jobs 2 --output-sync lint test

lint: env  ## style, types and import rules
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: env  ## whether a weakness of a pinned package is publicly known; asks pypi.org
	$(BIN)/python tools/audit.py

docs: env  ## the documentation as pages, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

env: $(READY)  ## the environment

# torch comes first and alone, so that no other requirement can pull in a different build. Never add torchvision: where its
# build doesn't match torch's, importing it fails and takes torchmetrics with it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:  ## remove the environment, keep the runs
	rm -rf .venv
