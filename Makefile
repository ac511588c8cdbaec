# Everything happens in a virtual environment under the project, made once and used again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# uv installs in a quarter of the time that pip takes, which does it where uv cannot: uv knows nothing of
# pip's settings, as of a company's own index. Its cache is of no use later.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV_PIP := UV_CACHE_DIR=$(VENV)/uv $(BIN)/uv pip install --quiet --python $(BIN)/python
INSTALL = { $(PIP) uv && $(UV_PIP) $(WHAT); } || $(PIP) $(WHAT); status=$$?; rm -rf $(VENV)/uv; exit $$status

.PHONY: quickstart test lint library ray format docs floors gpu-check clean

CXX_FILES := $(wildcard $(addprefix binseg/runtime/csrc/,*.h *.cpp */*.h */*.cpp) tests/runtime/*.cpp \
    binseg/program/cuda/csrc/* tests/cuda/cuda_emulation/*.h tools/*.cpp)

quickstart: $(VENV)/installed library
	$(BIN)/binseg quickstart --out quickstart

# processes that share the tests, a whole file at a time: what a file trains or compiles is made once;
# one more than a small machine has cores, as some tests wait for browsers and for other programs
WORKERS ?= 3
# what the tests keep for later goes when the environment goes
test: export BINSEG_CACHE := $(CURDIR)/$(VENV)/cache
# modules are compiled once and not by each process that the tests start
test: export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/installed-dev
	@# two that have one process each at most times
	$(MAKE) --no-print-directory --jobs 2 lint library
	@# the demo is tested in a real browser where there is one or one can be had
	$(BIN)/python tests/demo/chromium.py
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile -m 'not openvino and not ray'
	@# in processes of their own, which end before others fork
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile -m openvino $$(grep -rl --include=*.py pytest.mark.openvino tests)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

# the C++ library; a wheel brings it along
library: $(VENV)/installed
	$(BIN)/python -m binseg.runtime.build

# a Ray cluster of two workers on this machine
ray: $(VENV)/installed-dev
	$(PIP) --editable '.[ray]'
	$(BIN)/python -m pytest -m ray tests/test_ray.py

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# The site, into build/site: docs/, the README and the cards, with the Python API
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -f tools/site/mkdocs.yml

# The lowest versions that pyproject.toml declares, in an environment of their own: do they install,
# train and predict?
floors: $(VENV)/floors/installed
	$(VENV)/floors/bin/python -m pytest -q -p no:cacheprovider tests/test_floors.py

# Needs a GPU, nvcc, g++ and a Python with torch, ninja, numpy and safetensors, and nothing installed:
# build the CUDA kernels, compare them with the reference, time them. OUT is where the figures go.
OUT ?= build/gpu-check
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu-check:
	PYTHONPATH=$(CURDIR) $(GPU_PYTHON) tools/gpu_check.py --out $(OUT)

clean:
	rm -rf $(VENV) build binseg.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: WHAT = --editable '.[train,demo]' cmake
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(INSTALL)
	touch $@

$(VENV)/installed-docs: WHAT = --editable '.[docs]'
$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(INSTALL)
	touch $@

$(VENV)/floors/installed: pyproject.toml | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/floors
	$(VENV)/floors/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/floors/bin/uv pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml \
	    --python $(VENV)/floors/bin/python --output-file $(VENV)/floors/lowest.txt
	$(VENV)/floors/bin/uv pip install --python $(VENV)/floors/bin/python --requirement $(VENV)/floors/lowest.txt
	$(VENV)/floors/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# all that `installed` has, and what the tests need
$(VENV)/installed-dev: WHAT = --editable '.[dev]'
$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(INSTALL)
	touch $(VENV)/installed $(VENV)/installed-docs $@
