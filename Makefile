.DEFAULT_GOAL := help
.PHONY: help demo chaos service test test-awaited compliance coverage lint types layers check lock dist sbom check-dist try-dist licences hooks bench record-counts outages diagrams clean \
  infra-test infra-scan audit docs infra-build infra-synth prepare-account deploy-database bootstrap migrate deploy-application deploy destroy

PYTHON ?= python3
SIGNUPS ?= examples/signups.csv
ARGS ?=
ONLY ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := pip --quiet --disable-pip-version-check --no-input

# Variables of the shell that would make Python load other modules, compile them again in each process, or make pip
# install other packages or elsewhere.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONWARNINGS PYTHONSTARTUP PYTHONINSPECT PYTHONUSERBASE CDPATH
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_PYTHON PIP_SRC PIP_DRY_RUN PIP_REQUIRE_HASHES PIP_CONSTRAINT \
  PIP_REQUIREMENT PIP_EDITABLE PIP_NO_DEPS PIP_NO_BINARY PIP_PLATFORM PIP_PYTHON_VERSION PIP_ABI PIP_IMPLEMENTATION

ENVIRONMENT ?= dev
INFRA_VENV := infra/.venv
INFRA_BIN := $(INFRA_VENV)/bin
# checkov needs other versions of the packages of infra/.
CHECKOV_VENV := .venv-checkov
# Only the build system, so that no other package can change what is published.
BUILD_VENV := .venv-build
# pip-audit needs packages that nothing else does.
AUDIT_VENV := .venv-audit
# The packages with which this one is compared, and a plotting library.
BENCH_VENV := .venv-bench
# The generator of the documentation site.
DOCS_VENV := .venv-docs
# The CDK uses the Node.js of this virtual environment.
INFRA := cd infra && PATH="$(CURDIR)/$(INFRA_BIN):$$PATH"

help: ## Show all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# $(call make-venv,FOLDER)
define make-venv
@command -v "$(PYTHON)" >/dev/null \
  || { echo "$(PYTHON) is not installed: install Python 3.11 or newer, or name one: make PYTHON=python3.13 ..." >&2; exit 2; }
@"$(PYTHON)" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.13 ..." >&2; exit 2; }
@"$(PYTHON)" -I -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null \
  || { echo "$(PYTHON) cannot create a virtual environment: on Debian and Ubuntu, install the package python3-venv" >&2; exit 2; }
@rm -rf $(1)
@"$(PYTHON)" -I -m venv $(1) || { rm -rf $(1); exit 2; }
endef

# $(call install,FOLDER,LIST,OPTIONS)
# A folder without pip, or in which an installation was killed, is created again.
define install
@if [ -e $(1)/.installing ] || ! $(1)/bin/python -I -m pip --version >/dev/null 2>&1; then \
  rm -rf $(1) && $(MAKE) --no-print-directory $(1)/bin/python; fi
@echo "Installing $(2) into $(1)" >&2
@touch $(1)/.installing
@$(1)/bin/python -I -m $(PIP) install $(3) --require-hashes --only-binary :all: -r $(2) \
  && $(1)/bin/python -I -m $(PIP) install --no-deps --no-build-isolation --no-index -e . \
  || { rm -f $(1)/.installing; exit 1; }
@touch $@ && rm -f $(1)/.installing
endef

$(BIN)/python:
	$(call make-venv,$(VENV))

$(VENV)/.installed-%: requirements/%.txt pyproject.toml $(BIN)/python
	$(call install,$(VENV),$<)

$(INFRA_BIN)/python:
	$(call make-venv,$(INFRA_VENV))

# The CDK is 400 MiB of Python, of which a tenth is imported; that part is compiled when it is.
$(INFRA_VENV)/.installed: infra/requirements.txt pyproject.toml $(INFRA_BIN)/python
	$(call install,$(INFRA_VENV),$<,--no-compile)

infra/node_modules/.installed: infra/package-lock.json $(INFRA_VENV)/.installed
	@$(INFRA) npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

demo: $(VENV)/.installed-local ## Register the people of a CSV file in a PostgreSQL on this machine (SIGNUPS=my.csv, ARGS=--keep)
	@exec $(BIN)/python -I $(BIN)/registration-persistence demo $(ARGS) "$(SIGNUPS)"

chaos: $(VENV)/.installed-local ## Sign people up for 75 s while faults are injected (ARGS='--timeline chaos.svg')
	@exec $(BIN)/python -I $(BIN)/registration-persistence chaos $(ARGS)

service: $(VENV)/.installed-service ## Start the example service with its pages on this machine, until Ctrl-C (ARGS='--port 8001')
	@cd examples/fastapi_service && exec $(CURDIR)/$(BIN)/python -m signup_local $(ARGS)

test: $(VENV)/.installed-dev $(DOCS_VENV)/.installed ## Run every test (ARGS='-k tls' selects)
	@$(BIN)/python -m pytest $(ARGS)

test-awaited: $(VENV)/.installed-dev ## Run the integration and resilience tests on the asynchronous side (ARGS='--debug tests/resilience')
	@$(BIN)/python tests/awaited/run.py $(or $(ARGS),tests/integration tests/resilience)

compliance: $(VENV)/.installed-dev ## Run SQLAlchemy's compliance suite on the dialect and on the engine (ARGS='-k isolation' selects)
	@for engine in dialect ours; do $(BIN)/python -m pytest -q -c tests/compliance/setup.cfg tests/compliance --engine $$engine $(ARGS) || exit; done

coverage: $(VENV)/.installed-dev $(DOCS_VENV)/.installed ## Run every test and measure branch coverage (fails below the gate)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

lint: $(VENV)/.installed-dev ## Check style, formatting and the workflows
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/zizmor --quiet --offline --persona pedantic .github

types: $(VENV)/.installed-dev ## Type-check the package and the tests
	@$(BIN)/mypy

layers: $(VENV)/.installed-dev ## Check that imports point down the layers
	@$(BIN)/lint-imports

check: lint types layers test ## Check style, workflows, types and layers, and run every test

$(BUILD_VENV)/.installed: requirements/build.txt
	$(call make-venv,$(BUILD_VENV))
	@echo "Installing $< into $(BUILD_VENV)" >&2
	@$(BUILD_VENV)/bin/python -I -m $(PIP) install --require-hashes --only-binary :all: -r $<
	@touch $@

dist: $(BUILD_VENV)/.installed ## Build the wheel and the sdist reproducibly into dist/, and list their hashes
	@$(BUILD_VENV)/bin/python -I release/build_distributions.py

sbom: ## Write the SBOM of the version (CycloneDX) into build/
	@"$(PYTHON)" release/sbom.py

check-dist: $(AUDIT_VENV)/.installed ## Check the metadata in dist/ and the SBOM, as PyPI and its readers do
	@$(AUDIT_VENV)/bin/twine check --strict dist/*
	@$(AUDIT_VENV)/bin/python -I release/check_sbom.py

try-dist: ## Install the wheel and the sdist of dist/ into a new virtual environment, and try them
	@"$(PYTHON)" -I release/try_distributions.py

licences: $(AUDIT_VENV)/.installed ## Write docs/licences.md from the locked lists (asks the package index)
	@$(AUDIT_VENV)/bin/python release/licences.py

hooks: $(VENV)/.installed-dev ## Let pre-commit check style, spelling and workflows before each commit
	@$(BIN)/pre-commit install

$(BENCH_VENV)/bin/python:
	$(call make-venv,$(BENCH_VENV))

$(BENCH_VENV)/.installed: requirements/bench.txt pyproject.toml $(BENCH_VENV)/bin/python
	$(call install,$(BENCH_VENV),$<)

bench: $(BENCH_VENV)/.installed ## Measure this package beside its peers, and write docs/performance.md; takes 20 minutes (ONLY=cold selects a part)
	@$(BENCH_VENV)/bin/python benchmarks/bench.py $(addprefix --only ,$(ONLY)) $(ARGS)

record-counts: $(VENV)/.installed-dev ## Record the exact counts that the tests compare
	@$(BIN)/python benchmarks/exact_counts.py

outages: $(BENCH_VENV)/.installed ## Measure the longest outages beside AWS's wrapper; takes 3 minutes (ARGS=failover selects)
	@$(BENCH_VENV)/bin/python benchmarks/outages.py $(ARGS)

diagrams: $(VENV)/.installed-dev ## Write docs/diagrams.md and docs/cli.md from the code and docs/chaos.svg from docs/chaos.json (ARGS=--record measures again)
	@$(BIN)/python docs/make_diagrams.py
	@$(BIN)/python tests/cli/command_page.py
	@$(BIN)/python docs/make_timeline.py $(ARGS)

$(DOCS_VENV)/.installed: requirements/docs.txt
	$(call make-venv,$(DOCS_VENV))
	@echo "Installing $< into $(DOCS_VENV)" >&2
	@$(DOCS_VENV)/bin/python -I -m $(PIP) install --require-hashes --only-binary :all: -r $<
	@touch $@

docs: $(DOCS_VENV)/.installed ## Build the documentation site into site/; needs no network once its packages are installed
	@$(DOCS_VENV)/bin/python docs/builder/build_site.py

$(AUDIT_VENV)/.installed: requirements/audit.txt
	$(call make-venv,$(AUDIT_VENV))
	@echo "Installing $< into $(AUDIT_VENV)" >&2
	@$(AUDIT_VENV)/bin/python -I -m $(PIP) install --require-hashes --only-binary :all: -r $<
	@touch $@

# Without --strict, pip-audit succeeds if it cannot look a package up. A list with a vulnerability does not hide those of
# the others.
audit: $(AUDIT_VENV)/.installed $(INFRA_VENV)/.installed ## Search every locked list for known vulnerabilities
	@failed=0; \
	for list in requirements/*.txt infra/requirements*.txt; do \
	  echo "$$list"; \
	  $(AUDIT_VENV)/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r "$$list" || failed=1; \
	done; \
	echo infra/package-lock.json; \
	($(INFRA) npm audit --package-lock-only) || failed=1; \
	exit $$failed

infra-test: infra-build infra/node_modules/.installed ## Type-check and test infra/; needs no AWS account (ARGS='-k budget' selects tests)
	@$(INFRA) mypy
	@$(INFRA) python -m pytest $(ARGS)

$(CHECKOV_VENV)/.installed: infra/requirements-checkov.txt
	$(call make-venv,$(CHECKOV_VENV))
	@echo "Installing $< into $(CHECKOV_VENV)" >&2
	@$(CHECKOV_VENV)/bin/python -I -m $(PIP) install --require-hashes --only-binary :all: -r $<
	@touch $@

infra-scan: infra/node_modules/.installed $(CHECKOV_VENV)/.installed ## Check the templates with cfn-guard and checkov
	@$(INFRA) python -m pytest -q tests/scan/test_cfn_guard.py tests/scan/checkov_scan.py

infra-build: $(INFRA_VENV)/.installed ## Build the Lambda layer with the package and its dependencies
	@infra/build-layer

infra-synth: infra-build infra/node_modules/.installed ## Write and check the templates of ENVIRONMENT (default: dev)
	@$(INFRA) python deploy.py synth $(ENVIRONMENT)

prepare-account: infra/node_modules/.installed ## Prepare the account of ENVIRONMENT for the CDK; needed once
	@$(INFRA) python deploy.py prepare $(ENVIRONMENT)

deploy-database: infra-build infra/node_modules/.installed ## Deploy the database of ENVIRONMENT
	@$(INFRA) python deploy.py database $(ENVIRONMENT)

bootstrap: $(INFRA_VENV)/.installed ## Create the database roles of ENVIRONMENT
	@$(INFRA) python deploy.py bootstrap $(ENVIRONMENT)

migrate: $(INFRA_VENV)/.installed ## Upgrade the schema of ENVIRONMENT to the newest revision
	@$(INFRA) python deploy.py migrate $(ENVIRONMENT)

deploy-application: infra-build infra/node_modules/.installed ## Deploy the application of ENVIRONMENT
	@$(INFRA) python deploy.py application $(ENVIRONMENT)

deploy: infra-build infra/node_modules/.installed ## Deploy ENVIRONMENT: database, roles, schema, application; stops at the first failure
	@$(INFRA) python deploy.py all $(ENVIRONMENT)

destroy: infra-build infra/node_modules/.installed ## Delete the stacks of ENVIRONMENT, after a confirmation
	@$(INFRA) python deploy.py destroy $(ENVIRONMENT)

lock: ## Resolve requirements/*.txt again (needs uv)
	@requirements/lock

clean: ## Remove the virtual environments and all build results
	@rm -rf $(VENV) $(INFRA_VENV) $(CHECKOV_VENV) $(AUDIT_VENV) $(BUILD_VENV) $(BENCH_VENV) $(DOCS_VENV) infra/node_modules infra/build infra/cdk.out dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
