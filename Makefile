# make demo: everything from nothing to the report. make test: the whole test suite.
PYTHON ?= python3
VENV ?= .venv
# Test files side by side: as many as there are cores, up to eight.
JOBS ?= auto
SIDE_BY_SIDE = -n $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# make PINS=.ci/constraints.txt ...: the versions of an environment that the tests ran in.
PINS ?=
BIN := $(VENV)/bin
RUN := $(BIN)/python
READY := $(VENV)/.ready

.PHONY: help env demo ui test test-fast lowest check bench faults fuzz format docs clean

help:
	@echo "make demo       environment, simulated survey, both networks, comparison, report"
	@echo "make ui         open the MLflow page on what was trained"
	@echo "make test       the whole test suite"
	@echo "make test-fast  the tests that take seconds"
	@echo "make lowest     these with the lowest versions that pyproject.toml admits"
	@echo "make check      formatting, lint, types"
	@echo "make bench      how fast it is beside what else does the same; half an hour, leave it alone"
	@echo "make faults     kill commands at any moment, go on, compare; three quarters of an hour"
	@echo "make fuzz       broken files into every reader, for ten minutes"
	@echo "make docs       the documentation as a site, in docs/_build/html"
	@echo "make clean      remove the environment and all caches, not the runs"

env: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet $(if $(PINS),-c $(PINS)) -e '.[dev]'
	touch $@

demo: $(READY)
	$(RUN) train.py -m model=dia,nodia experiment=demo
	$(RUN) evaluate.py
	@echo "the trainings side by side, in a browser: make ui"

ui: $(READY)
	$(BIN)/rb ui --port $(or $(PORT),5000)

test: $(READY)
	$(RUN) -m pytest $(SIDE_BY_SIDE) --durations 15

test-fast: $(READY)
	$(RUN) -m pytest -m "not slow"

# The lowest versions that pyproject.toml admits, in an environment of their own. KEEP names
# packages that are not lowered, such as KEEP="torch torchvision".
lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) .ci/lowest.py $(KEEP) > .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip install --quiet -c .venv-lowest/pins.txt -e '.[dev]'
	.venv-lowest/bin/python -m pytest -m "not slow" $(SIDE_BY_SIDE)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(RUN) -m benchmarks.speed

faults: $(READY)
	$(RUN) tests/faults/harness.py

fuzz: $(READY)
	$(RUN) tests/faults/fuzz.py --corpus .cache/fuzz

docs: $(READY)
	rm -rf docs/_api
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf docs/_build docs/_api $(VENV) .venv-lowest .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
