.DEFAULT_GOAL := help
.PHONY: help demo chaos test lint types layers check lock dist benchmark diagrams clean

PYTHON ?= python3
SIGNUPS ?= examples/signups.csv
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

help: ## Show what can be run
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.13 ..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: requirements/%.txt pyproject.toml $(BIN)/python
	@echo "Installing requirements/$*.txt into $(VENV)" >&2
	@$(PIP) install --require-hashes --only-binary :all: -r $<
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: $(VENV)/.installed-local ## Register the people of a CSV file in a PostgreSQL on this machine (SIGNUPS=my.csv, ARGS=--keep)
	@$(BIN)/registration-persistence demo $(ARGS) "$(SIGNUPS)"

chaos: $(VENV)/.installed-local ## Sign people up for a minute while one fault follows the other (ARGS='--timeline chaos.svg')
	@$(BIN)/registration-persistence chaos $(ARGS)

test: $(VENV)/.installed-dev ## Run every test (ARGS='-k tls' selects)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev ## Check style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Type-check the package and the tests
	@$(BIN)/mypy

layers: $(VENV)/.installed-dev ## Check that imports point down the layers
	@$(BIN)/lint-imports

check: lint types layers test ## Everything that must hold before a change lands

dist: $(VENV)/.installed-dev ## Build the wheel and the sdist into dist/
	@$(BIN)/hatchling build

benchmark: $(VENV)/.installed-dev ## Measure what the README claims
	@for name in register_in_one_statement rotation bulk_import expiry; do $(BIN)/python benchmarks/$$name.py || exit; done

diagrams: $(VENV)/.installed-dev ## Write docs/diagrams.md from the code
	@$(BIN)/python docs/make_diagrams.py

lock: ## Resolve requirements/*.txt anew (needs uv)
	@requirements/lock

clean: ## Remove the virtual environment and everything that was built
	@rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
