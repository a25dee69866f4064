# foldblend. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
# More arguments for pytest: make test ARGS="-k store"
ARGS ?=
# Test processes at once.
TEST_PROCESSES ?= auto

BIN := $(VENV)/bin
STAMP := $(VENV)/.foldblend-installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow lint format types check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## create .venv and install foldblend with its tools (about 6 GB)

# The stamp is written last, so an install that failed or was interrupted is done again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: foldblend needs Python 3.11 or newer, $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo missing);" \
	    "name another one: make PYTHON=python3.12 $(or $(MAKECMDGOALS),venv)" >&2; \
	  exit 2; }
	@rm -f $@
	@echo "Installing into $(VENV): about 6 GB of packages, mostly PyTorch. This takes minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --no-compile -e '.[dev]'
	@# pip compiles on one core. Packages ship files for other Pythons, which do not compile.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib/python*/site-packages >/dev/null 2>&1 || true
	@touch $@

demo: $(STAMP) ## search, export and predict on handwritten digits, into demo/
	rm -rf demo
	$(BIN)/foldblend search experiment=digits name=demo storage=demo
	$(BIN)/foldblend export demo/demo -o demo/bundle
	$(BIN)/foldblend predict demo/bundle "$${XDG_CACHE_HOME:-$$HOME/.cache}/foldblend/digits/test" -o demo/submission.csv

test: $(STAMP) ## the tests that take seconds
	$(BIN)/pytest -m "not slow" -n $(TEST_PROCESSES) $(ARGS)

test-slow: $(STAMP) ## the tests that take minutes: a real Ray, whole searches
	$(BIN)/pytest -m slow -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting, changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: format, and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy over the four packages
	$(BIN)/mypy

check: lint types test ## the one way to check a change

clean: ## remove the demo, caches and build leftovers; .venv and runs/ stay
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find benchmarks ensemble search_spaces tests trainables tuner -type d -name __pycache__ -prune -exec rm -rf {} +
