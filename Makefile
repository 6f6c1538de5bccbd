# make demo, make test: each sets up .venv when it is absent or when the requirements have changed.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PYTHON ?= $(shell command -v python3.11 || command -v python3)

# A folder of benchmark data; without one the demo runs the project's own samples, and the table says so.
DATA_ROOT ?= $(or $(EVALKIT_DATA),$(wildcard ../shared/data))
DEMO_DATASETS := 'mmlu_ppl_ac766d:abstract_algebra,anatomy,astronomy,college_biology' gsm8k_gen_17d0dc \
	deprecated_humaneval_gen_d2537e 'needle_single_en_4k:*D0,*D52,*D100'

.PHONY: help setup demo test lint clean

help:
	@echo "make demo    a tiny random model on MMLU, GSM8K, HumanEval and a needle grid; DATA_ROOT=DIR names the data"
	@echo "make test    lint, then the tests"
	@echo "make lint    ruff and mypy"
	@echo "make clean   remove what these made, .venv and outputs included"

setup: $(READY)

# torch first, so that its own choice of build is settled before anything depends on it.
$(READY): requirements.txt requirements-dev.txt
	@echo "setting up $(VENV): a few minutes the first time"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet torch==2.13.0
	$(PY) -m pip install --quiet -r requirements.txt -r requirements-dev.txt
	touch $@

demo: $(READY)
	$(PY) run.py make-tiny .tiny/base
	$(PY) run.py --models tiny_base --datasets $(DEMO_DATASETS) --limit 16 --allow-code \
		--data-root $(or $(DATA_ROOT),samples)

test: lint
	$(PY) -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .tiny outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find evalkit tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
