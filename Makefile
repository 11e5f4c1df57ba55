# make demo: set up and draw. make test: set up and check everything. Both need Python 3.11+, git and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out

.PHONY: demo test lint bench clean

.venv/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/.dev: .venv/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
# these peers ask for torchvision, which they need for data sets and pretrained networks alone; what is measured needs neither
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt azula smalldiffusion
	touch $@

demo: .venv/.base
	mkdir -p $(OUT)
	$(BIN)/unnoise generate "a handwritten seven" -n 16 --seed 1 -o $(OUT)/seven.png
	$(BIN)/unnoise generate "an ankle boot" -n 16 --seed 1 -o $(OUT)/boot.png
	@echo "look at $(OUT)/seven.png and $(OUT)/boot.png"

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/pyright

test: .venv/.dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

bench: .venv/.dev
	$(BIN)/python -m bench.nfe
	$(BIN)/python -m bench.speed
	$(BIN)/python -m bench.speed --model small
	$(BIN)/python -m bench.speed --model sd15
	$(BIN)/python -m bench.train_speed
	$(BIN)/python -m bench.startup

clean:
	rm -rf .venv build dist out .pytest_cache .ruff_cache .hypothesis
