# Everything happens in a virtual environment under the project, made once and used again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test ray format docs floors gpu-check clean

CXX_FILES := $(wildcard $(addprefix binseg/runtime/csrc/,*.h *.cpp */*.h */*.cpp) tests/runtime/*.cpp \
    binseg/program/cuda/csrc/* tests/cuda/cuda_emulation/*.h tools/*.cpp)

quickstart: $(VENV)/installed
	@# the C++ library; a wheel brings it along
	$(BIN)/python -m binseg.runtime.build
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
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/python -m binseg.runtime.build
	@# the demo is tested in a real browser where there is one or one can be had
	$(BIN)/python tests/demo/chromium.py
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile -m 'not openvino and not ray'
	@# in processes of their own, which end before others fork
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile -m openvino $$(grep -rl --include=*.py pytest.mark.openvino tests)

# a Ray cluster of two workers on this machine
ray: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
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

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train,demo]' cmake
	touch $@

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

$(VENV)/floors/installed: pyproject.toml | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/floors
	$(VENV)/floors/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/floors/bin/uv pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml \
	    --python $(VENV)/floors/bin/python --output-file $(VENV)/floors/lowest.txt
	$(VENV)/floors/bin/uv pip install --python $(VENV)/floors/bin/python --requirement $(VENV)/floors/lowest.txt
	$(VENV)/floors/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# all that `installed` has, and what the tests need; they import little of it, so none is compiled yet
$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	touch $(VENV)/installed $(VENV)/installed-docs $@
