# Every target makes its own virtual environment from nothing but python3 and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CODE := eventbus dlq adapters routes tests benchmarks
# How many processes share the tests: one more than two cores have, as many tests wait for disks and processes.
WORKERS ?= 3
SHARED := -n $(WORKERS) --dist worksteal

# Hundreds of the tests' processes would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check chaos bench format lint types architecture coverage clean

demo: $(VENV)/.demo  ## Run the product's main job once, on real data.
	$(BIN)/eventbus demo --once

test: $(VENV)/.dev  ## Run the tests.
	$(BIN)/python -m pytest $(SHARED)

check: lint types architecture coverage  ## Everything a change must pass; pytest's summary comes last.

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/pyright

architecture: $(VENV)/.dev
	$(BIN)/lint-imports

coverage: $(VENV)/.dev
	sh tests/run_with_coverage.sh $(BIN) $(SHARED)

# It also runs programs on every store beside the model that nobody has run before.
chaos: $(VENV)/.dev  ## Kill, freeze and cut off processes for as long as it takes to trust them: some 25 minutes.
	EVENTBUS_CHAOS_KILLS=200 EVENTBUS_CHAOS_DELIVERIES=20000 EVENTBUS_CHAOS_OUTAGE=10 \
		EVENTBUS_TEST_PROGRAMS=150 \
		$(BIN)/python -m pytest tests/scenarios tests/contracts/test_verbs_together.py -v -s

bench: $(VENV)/.bench  ## Time the hot paths beside their rivals.
	$(BIN)/python -m benchmarks

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[all]" --group dev
	touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[all]" --group dev --group bench
	touch $@ $(VENV)/.dev $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage*
