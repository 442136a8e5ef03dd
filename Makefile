# Everything is built inside this folder from git, make, python3 >= 3.11 (with venv) and Node >= 20 (with npm). `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3

UV_VERSION := 0.13.9
AIRFLOW_3 := 3.3.2
AIRFLOW_2 := 2.11.0
BOOTSTRAP := .bootstrap
VENV := .venv
VENV_AIRFLOW_3 := .venv-airflow-$(basename $(AIRFLOW_3))
VENV_AIRFLOW_2 := .venv-airflow-$(basename $(AIRFLOW_2))
LOCKS := airflow_provider/locks
AZURITE := node_modules/.ready
UV := $(BOOTSTRAP)/bin/uv
UV_READY := $(BOOTSTRAP)/.uv-$(UV_VERSION)
RUN := $(VENV)/bin/python

# Never fetch a Python: only the one on the PATH is known to exist. A pip mirror named in the environment serves uv, too.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call step,number,what,commands): one plain line per step of the set-up; the commands' output only when they fail.
define step
@mkdir -p .cache; printf '[%s/6] %s … ' '$(1)' '$(2)'; start=$$SECONDS; \
if { $(3); } >.cache/setup-$(1).log 2>&1; then printf '%d s\n' $$((SECONDS - start)); \
else printf 'failed\n'; cat .cache/setup-$(1).log; exit 1; fi
endef

# $(call venv,folder): make the virtual environment unless it works already (a copied or moved folder's does not).
venv = { $(1)/bin/python -c '' 2>/dev/null || $(UV) venv --clear --python $(BOOTSTRAP)/bin/python $(1); }

##@ Start here

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The demo's: make demo MODE=queue AIRFLOW=2.11
MODE ?= resume
AIRFLOW ?= $(basename $(AIRFLOW_3))
VENV_DEMO := $(if $(filter 2.%,$(AIRFLOW)),$(VENV_AIRFLOW_2),$(VENV_AIRFLOW_3))

.PHONY: demo
demo: $(VENV)/.ready $(VENV_DEMO)/.ready ## Watch a real Airflow wait for Data Factory runs on this machine (KEEP=1 leaves it running; MODE=queue: by Service Bus)
	@$(RUN) -m local.demo --airflow $(AIRFLOW) --mode $(MODE) $(ARGS)

.PHONY: up
up: $(VENV)/.ready ## Run the bridge and its stand-ins for Azure: make up ARGS="--pipelines DIR --state DIR --airflow NAME=URL"
	@$(RUN) -m local up $(ARGS)

.PHONY: test
test: setup ## Every part of the test suite, one line each
	@$(RUN) -m tests.run

##@ Parts of the test suite

.PHONY: check
check: setup ## Lint, format, types, import rules, documented settings, locked requirements
	@$(RUN) -m tests.run check

.PHONY: unit stateful contract component
unit: $(VENV)/.ready ## The rules, without I/O: seconds
stateful: $(VENV)/.ready ## A simulated world under faults, driven by Hypothesis and by chance
contract: $(VENV)/.ready $(AZURITE) ## What every implementation of a port must keep
component: $(VENV)/.ready $(AZURITE) ## The Function app inside Microsoft's worker library
unit stateful contract component:
	@$(RUN) -m tests.run $@

.PHONY: provider provider-2 e2e
provider: setup ## The Airflow provider, inside Airflow 3
provider-2: setup ## The Airflow provider, inside Airflow 2
e2e: setup ## Everything together, with a real Airflow
provider provider-2 e2e:
	@$(RUN) -m tests.run $@

##@ Beyond the test suite

SEED ?= 1
RUNS ?= 20000

.PHONY: simulate
simulate: $(VENV)/.ready ## 20,000 runs under faults in a simulated world, from a seed: make simulate SEED=2 ARGS="--break RULE"
	@$(RUN) -m tests.simulate --seed $(SEED) --runs $(RUNS) $(ARGS)

.PHONY: explore
explore: $(VENV)/.ready ## 5,000 stories of 60 steps in the same world, thought of by Hypothesis: make explore SEED=2 ARGS="--examples 500"
	@$(RUN) -m tests.stateful --seed $(SEED) $(ARGS)

.PHONY: soak
soak: $(VENV)/.ready $(AZURITE) ## 2,000 runs through the Functions host under kill -9: make soak SEED=2 ARGS="--store table"
	@$(RUN) -m tests.soak --seed $(SEED) $(ARGS)

.PHONY: load
load: $(VENV)/.ready ## One slow target does not hold up the other, measured: make load ARGS="--seconds 20 --rate 20"
	@$(RUN) -m benchmarks.two_targets $(ARGS)

.PHONY: listener
listener: $(VENV)/.ready $(VENV_AIRFLOW_3)/.ready ## 500 tasks wait on one triggerer, measured: make listener ARGS="--seconds 10 --rounds 1"
	@$(RUN) -m benchmarks.listener $(ARGS)

.PHONY: outages
outages: $(VENV)/.ready $(VENV_AIRFLOW_3)/.ready ## 60 tasks wait in mode queue while triggerers, Service Bus and the bridge are killed: make outages ARGS="--rows triggerer"
	@$(RUN) -m tests.outages $(ARGS)

.PHONY: sources
sources: $(VENV)/.ready ## What becomes of a run's end, row by row: by a wrapper's notice, by the sweep, under faults
	@$(RUN) -m tests.sources $(ARGS)

.PHONY: relay
relay: $(VENV)/.ready ## 200 runs whose ends only diagnostic records tell, shuffled, doubled, some lost
	@$(RUN) -m tests.relay --seed $(SEED) $(ARGS)

##@ Set-up

.PHONY: setup
setup: $(VENV)/.ready $(VENV_AIRFLOW_3)/.ready $(VENV_AIRFLOW_2)/.ready $(AZURITE) ## Build the virtual environments, the app's and both Airflows', and Azurite
	@:

.PHONY: airflow
airflow: $(VENV_AIRFLOW_3)/.ready $(VENV_AIRFLOW_2)/.ready ## Build only the virtual environments of both Airflows
	@:

$(UV_READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "adf-bridge needs Python 3.11 or newer. '$(PYTHON)' on the PATH is: $$( ($(PYTHON) --version 2>&1 || true) | head -n 1). Name another with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module (Debian and Ubuntu: install the package python3-venv)." >&2; exit 1; }
	$(call step,1,uv $(UV_VERSION),rm -rf $(BOOTSTRAP) && $(PYTHON) -m venv $(BOOTSTRAP) && $(BOOTSTRAP)/bin/python -m pip install uv==$(UV_VERSION) && touch $@)

$(VENV)/.app: requirements-dev.txt | $(UV_READY)
	$(call step,2,the app and its tools,$(call venv,$(VENV)) && $(UV) pip sync --quiet --require-hashes --python $(RUN) requirements-dev.txt && touch $@)

# The worker library asks for Python 3.13 and works on 3.11. pip can be told so, uv can not.
$(VENV)/.ready: $(VENV)/.app local/worker-requirements.txt
	$(call step,3,the Azure Functions worker library,$(BOOTSTRAP)/bin/python -m pip --python $(RUN) install --no-deps --ignore-requires-python --require-hashes -r local/worker-requirements.txt && touch $@)

# The provider is installed editable, with the build backend that the lock pins. Compiling now spares five processes the work later.
$(VENV_AIRFLOW_3)/.ready: $(LOCKS)/airflow-$(AIRFLOW_3).txt airflow_provider/pyproject.toml | $(UV_READY)
	$(call step,4,Airflow $(AIRFLOW_3) and the provider,$(call venv,$(VENV_AIRFLOW_3)) && $(UV) pip sync --quiet --compile-bytecode --python $(VENV_AIRFLOW_3)/bin/python $< && $(UV) pip install --no-deps --no-build-isolation --python $(VENV_AIRFLOW_3)/bin/python --editable ./airflow_provider && touch $@)

# The provider once more, in the Airflow that so many still run.
$(VENV_AIRFLOW_2)/.ready: $(LOCKS)/airflow-$(AIRFLOW_2).txt airflow_provider/pyproject.toml | $(UV_READY)
	$(call step,5,Airflow $(AIRFLOW_2) and the provider,$(call venv,$(VENV_AIRFLOW_2)) && $(UV) pip sync --quiet --compile-bytecode --python $(VENV_AIRFLOW_2)/bin/python $< && $(UV) pip install --no-deps --no-build-isolation --python $(VENV_AIRFLOW_2)/bin/python --editable ./airflow_provider && touch $@)

# Microsoft's emulator of Table Storage, for the store's tests. Its lock names no registry: npm's own setting counts.
$(AZURITE): package.json package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && npm --version >/dev/null 2>&1 || { \
	  echo "adf-bridge's tests need Node 20 or newer, with npm, for Azurite (the emulator of Azure Table Storage). 'node' on the PATH is: $$( (node --version 2>&1 || true) | head -n 1)" >&2; exit 1; }
	$(call step,6,Azurite,npm ci --ignore-scripts --no-audit --no-fund && touch $@)

##@ Upkeep

# The locks are compiled lists and no uv.lock: they name no package index, so a company's own index serves them as well.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --annotation-style line \
  --custom-compile-command "make lock" $(UPGRADE)

.PHONY: lock
lock: $(UV_READY) ## Write the locks anew after a change of dependencies (UPGRADE=--upgrade takes the newest of all)
	$(COMPILE) --generate-hashes --group dev pyproject.toml --output-file requirements-dev.txt
	$(COMPILE) --constraint requirements-dev.txt pyproject.toml --output-file requirements.txt
	for lock in $(basename $(notdir $(wildcard $(LOCKS)/*.in))); do $(COMPILE) $(LOCKS)/$$lock.in --output-file $(LOCKS)/$$lock.txt; done

.PHONY: format
format: $(VENV)/.ready ## Let ruff fix and format what it can
	@$(RUN) -m ruff check --fix-only --quiet .
	@$(RUN) -m ruff format .

.PHONY: clean
clean: ## Remove everything that make has built
	rm -rf $(BOOTSTRAP) $(VENV) .venv-airflow-* node_modules .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
