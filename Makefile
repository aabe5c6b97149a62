# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint format report clean operators-cuda

install: .venv/.installed-all

demo: .venv/.installed-serving
	$(BIN)/python examples/demo.py

# CI sets COVERAGE=1: then the branch coverage must reach its floors. Tests that need a data set or a GPU's tools are
# skipped if it is missing, and the coverage may then be too low.
test: install
ifdef COVERAGE
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='service/*' --fail-under=95
	$(BIN)/coverage report --omit='service/*' --fail-under=90
else
	$(BIN)/pytest
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
	$(BIN)/python -m experiments.report

# The operator for NVIDIA GPUs: needs nvcc 13 on PATH and ONNX Runtime's headers (docs/guides/gpu.md).
NVCC ?= nvcc
ONNXRUNTIME_HEADERS ?= /usr/include/onnxruntime
CUDA_CODE := $(foreach a,75 80 86 89 90 100 120,-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_120,code=compute_120

operators-cuda: service/runtime/operators/_network_cuda.so

service/runtime/operators/_network_cuda.so: service/runtime/operators/network.cu $(wildcard service/runtime/operators/*.hpp)
	$(NVCC) -std=c++17 -O3 --fmad=false -ftz=true -shared -cudart static $(CUDA_CODE) -I$(ONNXRUNTIME_HEADERS) \
		-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-ffp-contract=off $< -o $@

clean:
	rm -rf .venv build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "cannot make a virtual environment: apt-get install python3-venv"; exit 1; }

OPERATORS := $(wildcard service/runtime/operators/*.cpp service/runtime/operators/*.hpp)

.venv/.installed-serving: pyproject.toml $(OPERATORS) | $(BIN)/python
	@echo "installing the server into .venv, without torch: half a minute and 0.2 GB"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu]'
	@$(BIN)/python -m service.runtime.operators
	@touch $@

# some tests compile C++: where there is no g++, a compiler from PyPI
COMPILER := $(if $(shell command -v g++),,ziglang)

.venv/.installed-all: pyproject.toml $(OPERATORS) | $(BIN)/python
	@echo "installing everything into .venv, with torch: some minutes, some GB"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu,train,test]' $(COMPILER)
	@$(BIN)/python -m service.runtime.operators
	@touch .venv/.installed-serving $@
