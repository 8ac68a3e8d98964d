# Every target does the set-up that it needs by itself: `make demo` alone works on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-all check bench bench-faults device-check demo-assets translations clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) -V). Name another one: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	$(BIN)/python -m flows.operations.blanks  # once, so that no first start waits for it
	@touch $@

demo: setup
	$(BIN)/shoes run --recipe demo

# Tests of one file share what they set up, so a file goes to one worker, in the order of tests/conftest.py; each computes
# with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: check
	$(PYTEST) -m "not slow"

test-all: check
	$(PYTEST)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup
	for bench in benchmarks/[a-z]*.py; do $(BIN)/python $$bench --quick || exit 1; done
	$(BIN)/python -m benchmarks.device --smoke

# Every fault of a long night, made to happen: some minutes a row. `python -m benchmarks.faults --list` names them.
bench-faults: setup
	$(BIN)/python -m benchmarks.faults all

# What this GPU does with the program, in a table and one line of JSON: at most 8 minutes. A PYTHON that has PyTorch is
# taken as it is, with an environment of its own beside it; else the project's. ARGS are the kit's options.
device-check:
	@if $(PYTHON) -c 'import torch' 2>/dev/null; then $(PYTHON) benchmarks/device/bootstrap.py $(ARGS); \
	  else $(MAKE) --no-print-directory setup && $(BIN)/python -m benchmarks.device $(ARGS); fi

demo-assets: setup
	$(BIN)/python -m demo.make --catalogue "$${CATALOGUE:?the folder with styles.csv and images/}"

# The catalogue of shoes/language.py: new texts are added to shoes.po, untranslated, and shoes.mo is made of it.
translations: setup
	$(BIN)/pybabel --quiet extract --keywords=mark --add-location=file --sort-by-file --no-wrap --output=$(VENV)/shoes.pot shoes
	$(BIN)/pybabel --quiet update --domain=shoes --locale=pt_BR --input-file=$(VENV)/shoes.pot --output-dir=shoes/locale \
	  --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --no-wrap
	$(BIN)/pybabel --quiet compile --domain=shoes --locale=pt_BR --directory=shoes/locale

clean:
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache
