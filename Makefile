# Everything a newcomer types. Each target makes .venv and installs what it needs on its own, system packages included
# (as root; otherwise it prints the line to type): see tools/setup.sh.
#
#   make test PYTHON=python3.12        another interpreter for .venv
#   make setup TORCH_INDEX=URL         torch from another package index, another CUDA version's for example
#   make test PYTEST_ARGS="-k order"   more arguments for pytest

PYTHON ?=
TORCH_INDEX ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
BIN := .venv/bin
SETUP := PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" tools/setup.sh
INSTALLED_FROM := pyproject.toml constraints.txt pipeline/packing/kernels.c pipeline/resample.c trainer/nvum_native.c tools/setup.sh $(if $(TORCH_INDEX),asked-for-torch)

.PHONY: help setup demo test lint format bench soak clean asked-for-torch
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.development ## make .venv with everything: all loaders, linters, tests

demo: .venv/.runtime ## from a made-up release to trained, compared models, in under five minutes
	$(BIN)/python -m tools.demo

test: lint ## lint, then every test but the long ones
	$(BIN)/python -m pytest -m "not soak" $(PYTEST_ARGS)

lint: .venv/.development ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.development ## let ruff repair and format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.development ## every benchmark, hours; their rows go to tools/results/ and into README.md (BENCH_ARGS=--list)
	$(BIN)/python -m tools.bench_all $(BENCH_ARGS)

soak: .venv/.development ## the long tests
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

clean: ## remove what make made: .venv, caches, builds (never cxr-data/)
	rm -rf .venv .setup.log pipeline/packing/_kernels*.so build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.runtime: $(INSTALLED_FROM)
	@$(SETUP) runtime

.venv/.development: $(INSTALLED_FROM)
	@$(SETUP) development
