# make run | test | bench | lint | clean | help. Needs Python 3.11 or newer with its venv module, and nothing else.

PYTHON ?= python3
ARGS ?=
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help run test bench lint clean venv

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

run: venv  ## Bring up engines, web and workers; place a demo order; serve until Ctrl-C
	@exec $(VENV) -m devstack run --stop-with-parent $(ARGS)

test: venv  ## Run the tests against throw-away engines (ARGS="orders -k cancel")
	@exec $(VENV) -m devstack exec --stop-with-parent -- $(VENV) -m pytest -n 4 --dist loadgroup $(ARGS)

bench: venv  ## Measure the shop and its outbox beside baselines: benchmarks/results/ (ARGS="saga --orders 1000")
	@$(VENV) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@exec $(VENV) -m devstack exec --durable --stop-with-parent -- $(VENV) -m benchmarks $(ARGS)

lint: venv  ## Check format, style, types and import rules
	$(VENV) -m ruff format --check
	$(VENV) -m ruff check
	SECRET_KEY=only-for-mypy ENV_FILE=/dev/null $(VENV) -m mypy .
	$(VENV) -c "import sys; from importlinter.cli import lint_imports_command; sys.argv[0] = 'lint-imports'; lint_imports_command()"

clean:  ## Delete .venv, the state of make run, and caches
	@$(if $(wildcard .devstack/env),echo "make: the stack runs (.devstack/env): stop it first" >&2; exit 1,)
	rm -rf .venv .devstack staticfiles .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@command -v $(PYTHON) >/dev/null || { echo "make: Python 3.11 or newer is needed, and $(PYTHON) is not there" >&2; exit 1; }
	@exec $(PYTHON) devstack/bootstrap.py
