# Each target works on a fresh machine: it makes the virtual environment and installs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The tests share the processors; those of one file share what they set up.
PROCESSES := --numprocesses auto --maxprocesses 4 --dist loadfile
# For `make demo`: a folder of your own photographs, and a checkpoint in place of the one that ships.
PHOTOS ?=
MODEL ?=

.PHONY: help demo quick test check oldest bench

help:
	@echo "make quick    the tests but the slow ones, under two minutes on two cores: for the one who is changing code"
	@echo "make test     the whole suite, with a coverage gate"
	@echo "make check    format, lint, strict types, the order of imports"
	@echo "make oldest   the whole suite with the oldest releases that pyproject.toml allows"
	@echo "make demo     encode, decode and report photographs with the checkpoint that ships"
	@echo "make bench TRAIN=photos KODAK=kodak    quality against the authors' recipe"

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" PHOTOS="$(PHOTOS)" MODEL="$(MODEL)" sh examples/demo.sh

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PROCESSES) --cov --cov-report=term --cov-fail-under=95

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The whole suite with the oldest releases that pyproject.toml allows, in an environment of its own.
oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet uv
	$(VENV)-oldest/bin/uv pip install --python $(VENV)-oldest/bin/python --resolution lowest-direct --editable '.[dev]'
	$(VENV)-oldest/bin/python -m pytest $(PROCESSES)

# Needs folders of photographs: make bench TRAIN=photos KODAK=kodak
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.quality --train $(TRAIN) --kodak $(KODAK)
