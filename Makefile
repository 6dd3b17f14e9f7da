# What users, developers, CI and the image run. `make` alone lists the targets.
#
# Every target sets up what it needs. The environment is made again only when the lock's content changes: its stamp
# carries the lock's checksum, so a fresh checkout, a switched branch or a container never rebuilds it for a newer date.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCK ?= requirements/dev.txt
IMAGE ?= domix
ENGINE ?= $(firstword $(notdir $(foreach tool,docker podman buildah,$(shell command -v $(tool)))))
ARGS ?=

export PATH := $(if $(filter /%,$(VENV)),$(VENV),$(CURDIR)/$(VENV))/bin:$(PATH)
export DVC_NO_ANALYTICS := true
export HF_HUB_OFFLINE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_RETRIES ?= 2
export UV_HTTP_TIMEOUT ?= 300
export UV_PYTHON_DOWNLOADS := never
export WDS_SECURE := 1

checksum = $(shell cat $(1) 2>/dev/null | cksum | cut -d' ' -f1)
PACKAGES := $(VENV)/.packages-$(call checksum,$(LOCK))
READY := $(PACKAGES)-domix-$(call checksum,pyproject.toml requirements/run.in)

.PHONY: help scm packages env repro sweep plots study smoke test test-fast mutants check lock plan bench docs deps image image-digest clean

help: ## list the targets
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# A downloaded archive is no Git checkout, without which DVC wants to be told so; told again when there is one.
scm: $(READY)
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
	    if grep -qs no_scm .dvc/config.local; then $(BIN)/dvc config --local --unset core.no_scm; fi; \
	elif ! grep -qs no_scm .dvc/config.local; then \
	    echo "This is no Git checkout: DVC works without (.dvc/config.local); its experiments and diffs need 'git init'."; \
	    $(BIN)/dvc config --local core.no_scm true; \
	fi

packages: $(PACKAGES) # the environment without the project itself: a layer of the image

env: $(READY) ## create .venv from the hashed lock (PYTHON=python3.12 picks the interpreter)
	@echo "The environment is ready: source $(VENV)/bin/activate"

repro: scm ## bring the data, run the whole pipeline (params.yaml) side by side, show the result
	@echo "Running the pipeline of params.yaml; what is up to date is skipped."
	@$(BIN)/domix repro $(ARGS)

sweep: scm ## train several studies side by side, one training a GPU (ARGS='--test-domains clipart,sketch')
	@$(BIN)/domix sweep $(ARGS)

study: $(READY) ## collect studies into figures and tables for print (ARGS='--sweep default' or '--experiments')
	@$(BIN)/domix study $(ARGS)

plots: scm ## compare revisions' plots on a page that needs no network (ARGS='main my-experiment')
	@$(BIN)/domix plots $(ARGS)

smoke: $(READY) ## run the whole pipeline small (presets/smoke.yaml) in build/smoke, leaving your files alone
	@$(BIN)/python -m tools.smoke

# A file's tests stay in one process, which makes what they share once.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test: $(READY) ## run the tests, fast ones first (ARGS='-k name' picks some)
	@echo "Running the tests."
	@$(PYTEST) $(ARGS)

test-fast: $(READY) ## run those of every package that take seconds
	@echo "Running the fast tests."
	@$(PYTEST) -m "not slow and not browser" tests/unit tests/property $(ARGS)

mutants: $(READY) ## put small faults into a copy of the code, see that the tests notice (ARGS='--only bootstrap --jobs 2')
	@$(BIN)/python -m tools.mutants $(ARGS)

check: $(READY) ## run the linters, the type checker and the hygiene checks
	@echo "Running every check of .pre-commit-config.yaml."
	@$(BIN)/pre-commit run --all-files --show-diff-on-failure

lock: $(READY) ## resolve requirements/*.in into hashed locks (ARGS=--upgrade for newer versions)
	@echo "Resolving dev.in, then run.in and tools.in at the same versions."
	@for name in dev run tools; do \
	    constraint=$$([[ $$name == dev ]] || echo "--constraint requirements/dev.txt"); \
	    $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	        $(ARGS) $$constraint --output-file requirements/$$name.txt requirements/$$name.in; \
	done

docs: $(READY) ## write docs/parameters.md, params.schema.json, the tables in docs/architecture.md; complete params.yaml and presets
	@$(BIN)/python -m tools.document_params
	@$(BIN)/python -m tools.document_tables

deps: $(READY) ## tell which stages would run again for what has changed in the code (ARGS=train lists all it uses)
	@$(BIN)/python -m tools.stage_deps $(ARGS)

plan: $(READY) ## tell what the trainings of params.yaml will take (ARGS='--rate 3000': samples/s a device)
	@$(BIN)/domix plan $(ARGS)

bench: scm ## measure the data side at real size, then training (ARGS='--only bare --model RN50')
	@echo "Measuring the data side with generated data."
	@$(BIN)/domix bench data
	@echo "Measuring embedding with generated images and weights."
	@$(BIN)/domix bench embed
	@echo "Measuring the evaluation with generated answers."
	@$(BIN)/domix bench evaluate
	@echo "Measuring the linear probe with made-up features."
	@$(BIN)/domix bench probe
	@echo "Measuring circuits beside the reference's loop."
	@$(BIN)/domix bench circuits
	@echo "Measuring OOD scores with made-up features."
	@$(BIN)/domix bench ood
	@echo "Measuring signatures with generated activations."
	@$(BIN)/domix bench signature
	@echo "Measuring the study view with made-up tables."
	@$(BIN)/domix bench study
	@echo "Measuring sparse autoencoders, their store and shared features with made activations."
	@$(BIN)/domix bench mechanisms
	@echo "Measuring a zoo of models with random weights."
	@$(BIN)/domix bench zoo
	@echo "Bringing the packed data up to date, then measuring training."
	@$(BIN)/dvc repro --quiet mixtures captions
	@$(BIN)/domix bench train $(ARGS)

image: ## build the container image (ENGINE=docker|podman|buildah, BASE_IMAGE=... for another base)
	@if [[ -z "$(ENGINE)" ]]; then echo "make image: install docker, podman or buildah first" >&2; exit 1; fi
	@echo "Building $(IMAGE) with $(ENGINE)."
	@$(ENGINE) build --tag $(IMAGE) $(if $(filter-out docker,$(ENGINE)),--format docker) \
	    $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
	    --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(ARGS) .

image-digest: ## resolve the base image's digest (needs a network) and record it in the Dockerfile
	@$(PYTHON) -m tools.image_digest

clean: ## delete what can be made again: build/, caches of tools (not .venv, artifacts/ or DVC's cache)
	@echo "Deleting build/ and the tools' caches."
	@rm -rf build .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	@find src stages tests tools -name __pycache__ -prune -exec rm -rf {} +

$(PACKAGES): | $(BIN)/python
	@echo "Installing the packages of $(LOCK) into $(VENV) (about 3 GB the first time)."
	@rm -f $(VENV)/.packages-*
	@sed -n '/^uv==/,/[^\\]$$/p' $(LOCK) > $(VENV)/uv.txt
	@{ $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement $(VENV)/uv.txt \
	    && $(BIN)/uv pip sync --compile-bytecode --require-hashes --build-constraints $(LOCK) --python $(BIN)/python \
	        $(LOCK); } \
	    || { echo "make env: the packages could not be installed (the reason stands above); is there a network?" \
	        "Running make again continues where this stopped." >&2; exit 1; }
	@touch $@

$(READY): $(PACKAGES)
	@rm -f $(PACKAGES)-domix-*
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "make env: Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing);" \
	        "name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make env: $(PYTHON) lacks its venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; \
	    exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv --clear $(VENV)
