# Every habit of the project is one command: `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLE := runs/sample.mp4
VIDEO ?= $(SAMPLE)
COUNT ?= 200
SEED ?= 0
STUDIES := schemes cnn_baseline cost data_scale positions clips_and_crops long_videos robustness production features
# A process a core; the tests of a file stay together, for some go on where the one before them ended.
PYTEST := $(BIN)/python -m pytest -q -n auto --dist loadfile

.PHONY: help setup label test test-slow test-all conformance fuzz lint types format docs bench bench-full bench-page studies studies-page release

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

label: $(VENV)/.installed $(VIDEO)  ## label a sample video, or VIDEO=path
	$(BIN)/fal label $(VIDEO)

setup: $(VENV)/.installed-dev  ## create .venv with all that development needs

test: $(VENV)/.installed-test  ## run the tests: offline, on the CPU, in minutes
	$(PYTEST) --cov

test-slow: $(VENV)/.installed-dev  ## run the tests that take long
	$(PYTEST) -m slow

test-all: $(VENV)/.installed-dev test test-slow  ## run all tests, with every optional package

conformance: $(VENV)/.installed-dev  ## run transformers' own linter and common tests on FAL
	$(BIN)/python modeling_tests/conformance/lint_model.py
	$(BIN)/python modeling_tests/conformance/run.py

fuzz: $(VENV)/.installed-dev  ## give damaged files to `fal`: COUNT=200 of each kind, SEED=0
	$(BIN)/python modeling_tests/fuzz.py --count $(COUNT) --seed $(SEED)

lint: $(VENV)/.installed-dev types  ## check style, format, the floors and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev  ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the documentation in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed-dev  ## measure model, training, decoder, labeling at small sizes, in minutes
	$(BIN)/python benchmarks/forward.py --frames 8 --dtypes float32 --repeats 2
	$(BIN)/python benchmarks/runtimes.py --layers 2 --runs 3
	$(BIN)/python benchmarks/label_attention.py --labels 10 500 --runs 3
	$(BIN)/python benchmarks/growth.py --preset fal-small --frames 8 16 32 --sides 224 448 --batches 1 4 16 \
		--streams 1 2 --stream-clips 3 --runs 2 --max-seconds 5
	$(BIN)/python benchmarks/timelines.py
	$(BIN)/python benchmarks/decode.py --runs 3
	$(BIN)/python benchmarks/labeling.py
	$(BIN)/python benchmarks/training.py --preset fal-small --batch-size 2 --turns 2 --workers 0 1 2

bench-full: $(VENV)/.installed-dev  ## measure the same at full sizes, in hours
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/runtimes.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/label_attention.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/timelines.py --seconds 600
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/labeling.py --runs 9 --long-runs 3 --inputs 1000000
	$(BIN)/python benchmarks/training.py

studies: $(VENV)/.installed-dev  ## make the paper's tables and figures again, in miniature, in an hour or so
	set -e; for study in $(STUDIES); do $(BIN)/python studies/$$study.py; done

studies-page: $(VENV)/.installed-dev  ## put what the studies have found into docs/paper.md
	$(BIN)/python studies/write_paper_page.py --take

bench-page: $(VENV)/.installed-dev  ## put what was measured into docs/performance.md
	$(BIN)/python benchmarks/write_page.py --take

release: $(VENV)/.installed-dev  ## build sdist and wheel in dist/, check them, try the wheel
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pytest -q -m "" modeling_tests/test_wheel.py

$(SAMPLE): $(VENV)/.installed
	$(BIN)/python examples/labeling/make_sample_video.py $@

$(VENV)/.installed: setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# With an extra of setup.py.
$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@
