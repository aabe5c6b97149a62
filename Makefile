# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint format report clean

install: .venv/.installed-all

demo: .venv/.installed-serving
	$(BIN)/python -m service.demo

test: install
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# docs/experiments.md from the results that are kept in the repository
report: install
	$(BIN)/python -m hetsyn_model.experiments.report

clean:
	rm -rf .venv build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "cannot make a virtual environment: apt-get install python3-venv"; exit 1; }

OPERATORS := $(wildcard service/operators/*.cpp service/operators/*.hpp)

.venv/.installed-serving: pyproject.toml $(OPERATORS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu]'
	@$(BIN)/python -m service.operators
	@touch $@

.venv/.installed-all: pyproject.toml $(OPERATORS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu,train,test]'
	@$(BIN)/python -m service.operators
	@touch .venv/.installed-serving $@
