# Everything a reader of the README types. Safe to repeat: a package is installed again only when
# pyproject.toml changed, and the installation is editable, so a changed source needs nothing.

PYTHON ?= python3
VENV ?= .venv
# One worker per core, four at most: JAX compiles for most of the time and takes memory for it.
# A whole file goes to one worker, which then shares its fixtures and its compiled functions.
# The order of the files is that of tests/conftest.py, the longest first.
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast test-slow lint format types bench clean

help:
	@echo 'make demo       install and run the demonstration'
	@echo 'make test       install, then lint, types and the tests that are not slow'
	@echo 'make test-fast  style, and a selection of tests for while you work'
	@echo 'make test-slow  all tests, the slow ones too'
	@echo 'make lint       style and types only'
	@echo 'make format     rewrite the sources in the house style'
	@echo 'make bench      the benchmarks (ARGS="..." is passed on)'
	@echo 'make clean      remove build outputs and caches; keeps $(VENV)'
	@echo 'With another interpreter: make demo PYTHON=python3.12'

demo: $(RUN)
	@$(BIN)/mirth demo

test: lint
	@echo '== tests and documentation examples (some minutes on two cores)'
	@$(BIN)/python -m pytest -q $(WORKERS)

# Examples in docstrings are left out: collecting them means importing everything.
test-fast: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/python -m pytest -q $(WORKERS) -m "fast and not slow" tests

# With the emitters of XLA that users have: tests/conftest.py.
test-slow: $(DEV)
	@XLA_FLAGS= $(BIN)/python -m pytest -q $(WORKERS) -m "slow or not slow"

lint: $(DEV)
	@echo '== style'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo '== types (a minute the first time)'
	@$(BIN)/python -m mypy

format: $(DEV)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(DEV)
	@$(BIN)/python benchmarks/run.py $(ARGS)

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mirth needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)."; \
	  echo "Name a newer interpreter: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo '== creating $(VENV) (some seconds)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): pyproject.toml | $(BIN)/python
	@echo '== installing mirth and what it needs (one to five minutes the first time)'
	@$(BIN)/python -m pip install -q -e '.[report]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo '== installing mirth with its tools for tests (one to five minutes the first time)'
	@$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $(RUN) $@
