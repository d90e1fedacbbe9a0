# The commands of development. They need Python 3.11 or newer; PYTHON=... chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/crossfit-*/pyproject.toml))
# With what their tests need, such as the libraries of encoders.
TESTED := $(PLUGINS:%=-e './%[test]')

.PHONY: help install demo test coverage test-lowest fuzz lint format docs bench clean

help:
	@echo "make demo     fit and compare methods on the emoji set, write demo/report.html"
	@echo "make test     run the tests"
	@echo "make fuzz     call every public function with hostile arguments, ten times as often as make test"
	@echo "make install  set up .venv with crossfit, every plugin and the tools"
	@echo "make lint     ruff, typos and mypy"
	@echo "make coverage run the tests and report the lines that they do not run"
	@echo "make test-lowest  run the tests with the oldest versions that pyproject.toml allows"
	@echo "make docs     build the documentation into docs/_build/html"
	@echo "make bench    compare the speed with other packages and plain loops"
	@echo "make clean    remove .venv and everything built"

install: .venv/.installed

.venv/.installed: pyproject.toml $(PLUGINS:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "crossfit needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up .venv (torch is several gigabytes; this takes a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -e '.[test,lint,docs,coverage]' $(TESTED)
	@touch $@

demo: install
	$(BIN)/crossfit demo --out demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(TESTS)

coverage: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --cov --cov-report=term --cov-report=html $(TESTS)

# A separate virtual environment, with the lower bounds of pyproject.toml.
LOWEST := .venv-lowest
test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n 2 $(TESTS)

$(LOWEST)/.installed: pyproject.toml $(PLUGINS:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "lower bounds are tested with Python 3.11: make test-lowest PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
	  -e '.[test]' $(TESTED)
	@touch $@

fuzz: install
	FUZZ_EXAMPLES=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/fuzz

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/mypy
	@# The templates have the same package name, so each is checked separately.
	@for folder in plugins/template*/src; do $(BIN)/mypy $$folder || exit 1; done

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	@rm -rf docs/api  # pages of names that were removed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: install
	@for script in $(filter-out benchmarks/defaults.py benchmarks/diagnosis.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .venv-lowest demo docs/_build docs/api docs/examples .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
