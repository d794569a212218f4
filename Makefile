# All there is to learn: make demo, make test, make check, make bench.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.decaylab-installed

.PHONY: demo test test-fast check bench pair clean

# An environment that exists already is kept, with the torch that is in it if the constraints admit that.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,gym]'
	touch $@

demo: $(INSTALLED)  ## measures teacher decay on the pair that ships with the repository, with every control
	$(BIN)/decaylab prefix-decay --prefix-lengths 0,20,40,60 --samples 4 --controls all --out runs/demo

test: $(INSTALLED)  ## every test; those that need a GPU say so and are skipped where there is none
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-fast: $(INSTALLED)  ## without the simulations and the real model
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

check: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## sampling, scoring, training and aggregation against what is usual; results go to benchmarks/results/
	$(BIN)/python benchmarks/continuations.py --pair abacus
	$(BIN)/python benchmarks/continuations.py --pair smollm2
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/aggregation.py

pair: $(INSTALLED)  ## trains the embedded pair anew, into build/pair (an hour on two cores)
	$(BIN)/python -m decaylab.data.abacus.recipe all --out build/pair

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
