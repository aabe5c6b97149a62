# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint format report wheel release clean operators-cuda FORCE

install: .venv/.installed-all

demo: .venv/.installed-serving
	$(BIN)/python examples/demo.py

# Tests run in a process for each core, in four at most: PROCESSES=0 runs them in this one. The slowest are listed at
# the end, among them the notebook, which should take less than three minutes. CI sets COVERAGE=1: then the branch
# coverage must reach its floors. Tests that need a data set or a GPU's tools are skipped if it is missing, and the
# coverage may then be too low.
PROCESSES ?= auto
PYTEST_OPTIONS := --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadfile --durations 20
test: install
ifdef COVERAGE
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_OPTIONS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='service/*' --fail-under=95
	$(BIN)/coverage report --omit='service/*' --fail-under=90
else
	$(BIN)/pytest $(PYTEST_OPTIONS)
endif

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Write docs/experiments.md from the results in the repository.
report: install
	$(BIN)/python -m experiments.page.report

# One wheel for each processor, for every Python and any Linux with glibc 2.17, in dist/. zig compiles both here.
wheel: | $(BIN)/python
	@$(BIN)/python -m build_support.release --only packages

# The same, tried in empty environments, and the images where Docker is (IMAGES=none, cpu, gpu or cpu,gpu chooses).
# Nothing is published (docs/guides/release.md).
IMAGES ?= auto
release: | $(BIN)/python
	@$(BIN)/python -m build_support.release --images '$(IMAGES)'

# The operator for NVIDIA GPUs: needs nvcc 13 on PATH (docs/guides/gpu.md).
NVCC ?= nvcc
CUDA_CODE := $(foreach a,75 80 86 89 90 100 120,-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_120,code=compute_120

operators-cuda: service/runtime/operators/_network_cuda.so

service/runtime/operators/_network_cuda.so: service/runtime/operators/network.cu $(wildcard service/runtime/operators/*.hpp)
	$(NVCC) -std=c++17 -O3 --fmad=false -ftz=true -shared -cudart static $(CUDA_CODE) \
		-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-ffp-contract=off $< -o $@

clean:
	rm -rf .venv build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "cannot make a virtual environment: apt-get install python3-venv"; exit 1; }

NATIVE := $(wildcard build_support/*.py build_support/*.hpp hetsyn_model/native/*.cpp hetsyn_model/native/*.hpp service/runtime/operators/*.cpp service/runtime/operators/*.hpp)

# Changes when the build would: another compiler, or none
.venv/.build: FORCE | $(BIN)/python
	@plan="$$($(BIN)/python -m build_support --plan)"; [ "$$plan" = "$$(cat $@ 2>/dev/null)" ] || echo "$$plan" > $@

.venv/.installed-serving: pyproject.toml $(NATIVE) .venv/.build | $(BIN)/python
	@echo "installing the server into .venv, without torch: 0.2 GB"
	@$(BIN)/python -m build_support --plan
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu]'
	@$(BIN)/python -m service.runtime.operators
	@touch $@

# some tests compile C++: where there is no g++, a compiler from PyPI
COMPILER := $(if $(shell command -v g++),,'ziglang==0.17.*')

.venv/.installed-all: pyproject.toml $(NATIVE) .venv/.build | $(BIN)/python
	@echo "installing everything into .venv, with torch: some minutes; 1.5 GB, or 7 GB if torch comes with CUDA"
	@$(BIN)/python -m build_support --plan
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu,train,test]' $(COMPILER)
	@$(BIN)/python -m service.runtime.operators
	@touch .venv/.installed-serving $@
