# Two commands do all of a newcomer's set-up: `make smoke` and `make test`.
VENV ?= .venv
LADDER ?= --keep-going
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help install smoke ladder test lint types unit end-to-end format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

install: $(STAMP)  ## create .venv and install the package and its tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) found: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -c 'from steering_reliability.engine.compiled import compile_all; compile_all()'
	@touch $(STAMP)

smoke: $(STAMP)  ## run the smoke level on the embedded model; ends with the report to open
	$(BIN)/python -m pytest experiments -m smoke

ladder: $(STAMP)  ## climb all four levels, past one that fails; LADDER="--plan" says what it costs
	$(BIN)/steering-reliability ladder $(LADDER)

test: lint types unit end-to-end  ## all that continuous integration runs

lint: $(STAMP)  ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy on the package and its benchmarks
	$(BIN)/mypy

unit: $(STAMP)  ## unit, engine and plugin tests
	$(BIN)/python -m pytest tests --ignore tests/end_to_end

end-to-end: $(STAMP)  ## the smoke level for real, in a folder of its own
	$(BIN)/python -m pytest tests/end_to_end

format: $(STAMP)  ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and artifacts, keep the environment
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis artifacts/runs artifacts/tables artifacts/store* artifacts/directions artifacts/decisions
