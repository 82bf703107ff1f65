# make demo | picture | test | check | slow | faults. uv inside, so that the environment costs seconds.
# Bytecode is written once here: a sweep is many processes, and each would compile torch and ray for itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
KILLS  ?= 200
SHARE  ?= 0.05
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo picture test check lint slow mutants faults lock clean

demo: $(READY)  ## create the environment and run the demo sweep
	$(BIN)/sweeper demo

picture: $(READY)  ## the demo anew, and from it the README's picture and numbers
	rm -rf build/picture
	$(BIN)/sweeper demo --root build/picture
	$(BIN)/python -m benchmarks.demo build/picture/demo --docs docs

test: check  ## everything CI holds us to

check: lint
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

slow: $(READY)  ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow
	$(MAKE) mutants

mutants: $(READY)  ## how many mutants of the recipe and of what chooses the tests notice, of a SHARE drawn at random
	nice $(BIN)/python benchmarks/mutants.py --share $(SHARE) --seed 18

faults: $(READY)  ## every fault that has a test, then KILLS random kills and the table: about an hour, goes on if stopped
	$(BIN)/python -m pytest -m "slow or not slow" tests/faults
	$(BIN)/python -m tests.faults.storm --arm both --kills $(KILLS) --seed 7 --root build/storm

$(READY): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/python -m uv pip sync -q --require-hashes --compile-bytecode --python $(BIN)/python requirements.txt
	$(BIN)/python -m uv pip install -q --no-deps --no-build-isolation --python $(BIN)/python -e .
	touch $@

lock:  ## pin everything again, with hashes and no addresses
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements.txt
	echo google-api-python-client | $(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -c requirements.txt - -o sweeper/cluster/variants/gcp.txt

clean:
	rm -rf $(VENV) build mutants *.egg-info
