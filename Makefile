PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help install format check test test-all mutants demo sweep evaluate benchmark clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED)  ## make .venv with the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "rpe needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

format: $(INSTALLED)  ## sort imports, format, apply the fixes of ruff
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

check: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(INSTALLED)  ## the tests, in a few minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m 'not slow'

test-all: $(INSTALLED)  ## all tests, also the slow ones: kill and resume, mutants
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2
	$(BIN)/python benchmarks/mutants.py

mutants: $(INSTALLED)  ## mutation tests: one-line faults that a test must catch
	$(BIN)/python benchmarks/mutants.py

demo: $(INSTALLED)  ## train on handwritten digits for five to seven minutes, test, draw
	$(BIN)/python train.py experiment=digits hydra.run.dir=outputs/demo/$$(date +%Y-%m-%d_%H-%M-%S)

sweep: $(INSTALLED)  ## dimension x margin on digits, 12 jobs, two at a time, and a report; the same command resumes
	$(BIN)/python train.py -m experiment=digits sweep=dimension_x_margin launcher=joblib hydra.launcher.n_jobs=2 trainer.max_epochs=2 data.train_scenes=400 data.val_scenes=50 data.test_scenes=200 callbacks.pictures.images=1
	$(BIN)/python -m rpe.tools.report sweep=outputs/digits/sweep/dimension_x_margin

evaluate: $(INSTALLED)  ## the newest run, on its validation split
	$(BIN)/python evaluate.py run=$$(ls -td outputs/*/*/checkpoints outputs/*/sweep/*/*/checkpoints 2>/dev/null | head -1 | xargs dirname)

benchmark: $(INSTALLED)  ## speed and memory of grouping and loss, side by side with others
	$(BIN)/python benchmarks/engine.py

clean:  ## remove the virtual environment and caches; outputs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
