# `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export OMP_NUM_THREADS ?= 1

.PHONY: install demo test test-slow format lint types wheel docs clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/mlip demo --out demo --force

test: install lint types wheel
	$(BIN)/pytest -n 2

test-slow: install
	$(BIN)/pytest -n 2 -m slow

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Types are checked, and the import tree is tried, on what a user gets: a non-editable wheel.
wheel: install
	rm -rf build dist
	$(BIN)/python -m build --quiet --wheel --no-isolation
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel dist/*.whl

types: wheel
	MYPYPATH=build/wheel $(BIN)/mypy --package mlip --cache-dir build/mypy

# The site, in build/site.
docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
