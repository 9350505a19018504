# Two commands do all set-up: make up, make test. Everything they install lives in .venv and
# web-admin/node_modules; nothing is asked for beyond Python 3.11, Node 20 and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
ONLY ?=
DIR ?=

WEB_SOURCES := $(shell find web-admin -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

.PHONY: help up test check bench vectors screenshots web setup

help: ## Show what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: $(VENV)/.up web-admin/dist/.built ## Start everything here; ARGS="--port N --data-dir D"
	@exec $(BIN)/botyard up $(ARGS)

test: setup web tests/oidc_provider/node_modules/.installed ## Run every test there is; ONLY=<folder> runs one part
	@$(BIN)/python .ci/test.py $(ONLY)

check: setup ## Style, types, layers, size budgets and web sources
	@$(BIN)/python .ci/test.py --check

bench: setup ## Measure, print a table, write benchmarks/latest.json; ONLY=<figure>
	@$(BIN)/python -m benchmarks $(ONLY)

vectors: setup ## Run vector files through the codecs; DIR=<folder>
	@$(BIN)/python -m adapters.vectors $(DIR)

screenshots: setup web ## Take a picture of every page into screenshots/
	@$(BIN)/python .ci/screenshots.py

setup: $(VENV)/.dev

web: web-admin/dist/.built

# What runs, from the lock file, checked by hash.
$(VENV)/.up: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; point PYTHON at one."; exit 1; }
	@echo "• making the virtual environment (about half a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What tests and checks need on top.
$(VENV)/.dev: $(VENV)/.up requirements-dev.lock
	@echo "• installing what the tests need"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

web-admin/node_modules/.installed: web-admin/package-lock.json
	@node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null || \
		{ echo "Node 20 or newer is needed to build the web pages."; exit 1; }
	@echo "• fetching what builds the web pages (about half a minute, once)"
	@cd web-admin && npm ci --silent
	@touch $@

tests/oidc_provider/node_modules/.installed: tests/oidc_provider/package-lock.json
	@echo "• fetching the provider that sign-on is tested against"
	@cd tests/oidc_provider && npm ci --silent
	@touch $@

web-admin/dist/.built: web-admin/node_modules/.installed $(WEB_SOURCES)
	@echo "• building the web pages"
	@cd web-admin && npm run --silent build
	@touch $@
