# make demo, make test: each sets up .venv when it is absent or when the requirements have changed.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PYTHON ?= $(shell command -v python3.11 || command -v python3)

.PHONY: help setup demo test lint clean

help:
	@echo "make demo    the two small models that come with evalkit on the demo benchmarks"
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
	$(PY) -m pip install --quiet --no-warn-conflicts --upgrade --target $(VENV)/math-verify 'math-verify[antlr4_13_2]==0.9.0'
	touch $@

demo: $(READY)
	$(PY) run.py --models embedded_base embedded_chat --datasets 'demo_*' --allow-code --summarizer demo

test: lint
	$(PY) -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .tiny outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find evalkit tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
