# Each target sets itself up: a virtual environment in .venv, then its work.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SEEDS ?= 0-4

.PHONY: install demo test test-slow test-exhaustive bench docs check fix clean

install: $(VENV)/.installed

# A venv of Python >= 3.11 with this checkout and its development tools. If torch is there already, or a build of
# your choice (TORCH="torch==2.9.1 torchvision==0.24.1 --index-url ..."), that one is kept.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmctl needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/python -m pip install --quiet $(TORCH),)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	MMCTL=$(BIN)/mmctl SEEDS=$(SEEDS) sh recipes/demo.sh

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-exhaustive: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m exhaustive

# Ours against the published programs, in pairs; the last line of each is JSON. BENCH=--quick for a minute each.
bench: install
	for part in step augment memory data startup checkpoint ranks scale; do $(BIN)/python benchmarks/$$part.py $(BENCH) || exit 1; done

# The pages that are made from the code: docs/recipes.md, docs/plugins/, and the outputs in docs/plugins.md.
docs: install
	$(BIN)/python docs/generate.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mmctl

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
