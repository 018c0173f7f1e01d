# Each target does its own set-up: make demo, make test and make docs work in an empty clone.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo
TRIES ?= 100
DEVICE ?= cuda
GPU_MINUTES ?= 30
PARTS ?=
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-fast faults gpu lint docs hooks install clean

demo: $(VENV)/.installed
	$(BIN)/slmlp demo --out $(DEMO)

test: $(VENV)/.installed-test lint
	$(PYTEST)

test-fast: $(VENV)/.installed-test
	$(PYTEST) -m "not slow"

# Kills, full disks, damaged files, mutated inputs: counted, with the table in docs/reliability.md. TRIES=100 takes hours.
faults: $(VENV)/.installed-test
	$(BIN)/python tests/faults --tries $(TRIES) $(PARTS)

# What only a GPU can show: the tests of it, what a step waits for and costs, images per second beside timm's loop, and, for as
# long as GPU_MINUTES, the studies of docs/plans/gpu.md; given again, those go on.
gpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python benchmarks/step.py waits share views --device $(DEVICE) --sides 64 224
	$(BIN)/python benchmarks/throughput.py --device $(DEVICE) --compile --encoder resnet50 --batch-size 128 --images 2048 --steps 20
	$(BIN)/python benchmarks/throughput.py --device $(DEVICE) --compile --encoder vit_small_patch16_224 --batch-size 128 --images 2048 --steps 20 --sides 224
	timeout --signal=INT $(GPU_MINUTES)m sh -ec "$$(sed -n 's|^slmlp study tiny-imagenet.tar|$(BIN)/slmlp study $$SLMLP_DATA/tiny-imagenet.tar|p' docs/plans/gpu.md)" || test $$? = 124

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Strict: a warning is an error (a link without a target, a page that is in no table of contents, a docstring that does not parse).
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet docs build/docs

hooks: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable '.[hooks]'
	$(BIN)/pre-commit install

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("slmlp needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=python3.12, say") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test,tensorboard]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[docs,detection]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache docs/reference
