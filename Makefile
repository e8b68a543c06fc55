# make test    make a virtual environment, install, run the tests
# make check   lint, types, layering
# make         this help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGES := stale_runtime stale_model stale_export

.PHONY: help test check lint types layering format core clean
help:
	@sed -n 's/^# //p' Makefile

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto

check: lint types layering

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed build/types
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES) tests)

# The packages under the names they are imported by, which is how mypy has to see them.
build/types: Makefile
	mkdir -p $@
	ln -sfn ../../runtime $@/stale_runtime
	ln -sfn ../../stale_model $@/stale_model
	ln -sfn ../../export $@/stale_export
	touch $@

layering: $(VENV)/installed
	$(BIN)/lint-imports --config setup.cfg

format: $(VENV)/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The runtime alone, as an edge box installs it: no extras, no torch.
core:
	$(PYTHON) -m venv build/core
	build/core/bin/python -m pip install --quiet --constraint constraints.txt .
	build/core/bin/stale-run --help >/dev/null
	! build/core/bin/python -c 'import torch' 2>/dev/null

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache *.egg-info
