# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install demo test test-all test-long coverage lock lint format docs report wheel release clean FORCE

install: $(VENV)/.installed-all

demo: $(VENV)/.installed-serving
	$(BIN)/python examples/demo.py

# Three levels of tests (CONTRIBUTING.md): every edit in five minutes, every merge in twenty, every night. One process
# more than cores, because some tests wait: PROCESSES=0 runs them in this one. The slowest are listed at the end.
PROCESSES ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST_OPTIONS := --numprocesses $(PROCESSES) --dist loadfile --durations 20
test: install
	$(BIN)/pytest $(PYTEST_OPTIONS)

# what CI runs: lint, levels 1 and 2, sanitizers, containers, with the time of each
test-all:
	.ci/run

# All tests, with the day's seed: make test-long SEED=20261130 repeats that day's. Then the oldest and the newest
# versions of the dependencies. Then a hundred mutants: read those that no test catches.
SEED ?= $(shell date +%Y%m%d)
test-long: install
	@status=0; \
	HETSYN_TEST_SEED=$(SEED) $(BIN)/pytest $(PYTEST_OPTIONS) -m '' --hypothesis-seed $(SEED) --fuzz-inputs 20000 \
		tests research/tests || status=1; \
	.ci/versions || status=1; \
	$(BIN)/python -m tests.mutants --seed $(SEED) --count 100 || true; \
	exit $$status

# how much of the server level 1 passes
coverage: install
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_OPTIONS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='service/*' --omit='service/store/redis/*' --fail-under=90

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the site, in build/site
docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "read it, and search in it: python3 -m http.server --directory build/site"

# Write docs/experiments.md, its pictures and its table, and the picture of the timescale bank, from the kept results.
report: install
	$(BIN)/python -m research.worth.experiments_page
	$(BIN)/python -m research.worth.bank_picture

# One wheel for each processor, for every Python and any Linux with glibc 2.17, in dist/. zig compiles both here.
wheel: $(VENV)/.installed-release
	@$(BIN)/python -m build_support.release --only packages

# The same, tried in empty environments, and the images where Docker is (IMAGES=none, cpu, gpu or cpu,gpu chooses).
# Nothing is published (docs/guides/install.md).
IMAGES ?= auto
release: $(VENV)/.installed-release
	@$(BIN)/python -m build_support.release --images '$(IMAGES)'

clean:
	rm -rf $(VENV) .venv-system build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment: apt-get install python3-venv"; exit 1; }

NATIVE := $(wildcard build_support/*.py) $(shell find build_support hetsyn_model/native service/runtime/operators -name '*.[ch]pp')

# Changes when the build would: another compiler, or none
$(VENV)/.build: FORCE | $(BIN)/python
	@plan="$$($(BIN)/python -m build_support --plan)"; [ "$$plan" = "$$(cat $@ 2>/dev/null)" ] || echo "$$plan" > $@

# The versions of all dependencies, for every Python and platform. torch stays where a release was tried.
# perf-analyzer has no version: what runs needs glibc 2.38, and on an older system pip takes one without a program.
TORCH ?= 2.13.0
lock: | $(BIN)/python
	@$(BIN)/pip install --quiet --disable-pip-version-check uv
	@echo 'torch==$(TORCH)' | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate --no-emit-package perf-analyzer \
		--custom-compile-command 'make lock' --constraints - pyproject.toml research/pyproject.toml --output-file requirements.lock

# the build takes its own dependencies from the lock file, too
PIP_INSTALL := PIP_CONSTRAINT=requirements.lock PIP_BUILD_CONSTRAINT=requirements.lock \
	$(BIN)/pip install --quiet --disable-pip-version-check

$(VENV)/.installed-release: requirements.lock | $(BIN)/python
	@$(PIP_INSTALL) auditwheel check-wheel-contents uv
	@touch $@

$(VENV)/.installed-docs: docs/requirements.txt requirements.lock | $(BIN)/python
	@$(PIP_INSTALL) --requirement docs/requirements.txt
	@touch $@

$(VENV)/.installed-serving: pyproject.toml requirements.lock $(NATIVE) $(VENV)/.build | $(BIN)/python
	@echo "installing the server into $(VENV), without torch: a minute or two, 0.2 GB"
	@$(BIN)/python -m build_support --plan
	@$(PIP_INSTALL) -e '.[cpu]'
	@$(BIN)/python -m service.runtime.operators
	@touch $@

$(VENV)/.installed-all: pyproject.toml research/pyproject.toml requirements.lock $(NATIVE) $(VENV)/.build | $(BIN)/python
	@echo "installing everything into $(VENV), with torch: some minutes; 1.5 GB, or 7 GB if torch comes with CUDA"
	@$(BIN)/python -m build_support --plan
	@$(PIP_INSTALL) -e '.[cpu,train,test]' ./research
	@$(BIN)/python -m service.runtime.operators
	@touch $(VENV)/.installed-serving $@
