# Everything a newcomer types. Needs Python 3.11 or newer and make; PYTHON=... chooses another.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/crossfit-*/pyproject.toml))

.PHONY: help install demo test fuzz lint format docs bench clean

help:
	@echo "make demo     fit and compare methods on the emoji set, write demo/report.html"
	@echo "make test     run the tests"
	@echo "make fuzz     call everything public with hostile arguments, ten times as often as test"
	@echo "make install  set up .venv with crossfit, every plugin and the tools"
	@echo "make lint     ruff and mypy"
	@echo "make docs     build the documentation into docs/_build/html"
	@echo "make bench    speed, as ratios to peers"
	@echo "make clean    remove .venv and everything built"

install: .venv/.installed

.venv/.installed: pyproject.toml $(PLUGINS:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "crossfit needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up .venv (torch is several gigabytes; this takes a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -e '.[test,lint,docs]' $(addprefix -e ./,$(PLUGINS))
	@touch $@

demo: install
	$(BIN)/crossfit demo --out demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

fuzz: install
	FUZZ_EXAMPLES=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/fuzz

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: install
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv demo docs/_build docs/api docs/examples .pytest_cache .mypy_cache .ruff_cache .hypothesis
