# Every habit of the project is one command: `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLE := runs/sample.mp4
VIDEO ?= $(SAMPLE)

.PHONY: help setup label test test-all conformance lint format bench

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

label: $(VENV)/.installed $(VIDEO)  ## label a sample video, or VIDEO=path
	$(BIN)/fal label $(VIDEO)

setup: $(VENV)/.installed-dev  ## create .venv with all that development needs

test: $(VENV)/.installed-dev  ## run the tests: offline, on the CPU, in minutes
	$(BIN)/python -m pytest -q

test-all: $(VENV)/.installed-dev  ## run the slow tests as well
	$(BIN)/python -m pytest -q -m ""

conformance: $(VENV)/.installed-dev  ## run transformers' own linter and common tests on FAL
	$(BIN)/python modeling_tests/conformance/lint_model.py
	$(BIN)/python modeling_tests/conformance/run.py

lint: $(VENV)/.installed-dev  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev  ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## measure model, training, decoder, labeling beside transformers'
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/training.py --preset fal-small
	$(BIN)/python benchmarks/labeling.py

$(SAMPLE): $(VENV)/.installed
	$(BIN)/python examples/labeling/make_sample_video.py $@

$(VENV)/.installed: setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
