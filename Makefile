# make quickstart   train, evaluate and predict on embedded synthetic data
# make test         tests that are not marked slow; run before every commit
# make test-all     all tests
# make lint         ruff and pyright

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
RUN = runs/quickstart

PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20

.PHONY: quickstart test test-all lint

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

quickstart: $(VENV)/installed
	$(BIN)/python train.py --config configs/mtl_synthetic.py:quickstart --workdir $(RUN)
	$(BIN)/python evaluate.py --workdir $(RUN) --split test
	$(BIN)/python -m mtl_jax.data export synthetic --output $(RUN)/images --count 8 \
		--size 400 --heads 1 2 --head-heights .5 .95 --turn 45 35 30
	$(BIN)/python predict.py --workdir $(RUN) --input $(RUN)/images/images --output $(RUN)/predictions
	@echo "Overlays: $(RUN)/predictions/overlays"

test: $(VENV)/installed
	$(PYTEST) -m "not slow"

test-all: $(VENV)/installed
	$(PYTEST)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
