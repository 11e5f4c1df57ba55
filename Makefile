# make demo: set up and draw. make test: set up and check everything. Both need Python 3.11+, git and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out

# make train-gpu: the default model from nothing, on one GPU. make train-default: what CPUs came to before, and the judge. FLAGS=--resume goes on.
FLAGS ?=
TRAIN = $(BIN)/unnoise train recipes/$(1).toml --out runs/$(1) $(FLAGS)

.PHONY: demo test lint fuzz bench clean train-default train-gpu words

.venv/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/.data: .venv/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[data]"
	touch $@

.venv/.dev: .venv/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
# these peers ask for torchvision, which they need for data sets and pretrained networks alone; what is measured needs neither
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt azula smalldiffusion
	touch $@

demo: .venv/.base
	mkdir -p $(OUT)
	$(BIN)/unnoise generate "two red apples on their side" --seed 0 -o $(OUT)/apples.png
	$(BIN)/unnoise generate "a butterfly" -n 16 --seed 1 -o $(OUT)/butterfly.png
	$(BIN)/unnoise edit image-to-image $(OUT)/butterfly-1.png "a frog" --strength 0.7 --seed 1 -n 4 -o $(OUT)/frog.png
	$(BIN)/unnoise generate "a handwritten seven" -n 16 --seed 1 --model digits -o $(OUT)/seven.png
	@echo "look at $(OUT)/apples.png, $(OUT)/butterfly.png, $(OUT)/frog.png and $(OUT)/seven.png"

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/pyright

test: .venv/.dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# make fuzz N=20000: so many damaged and hostile inputs, spread over all kinds; counts by kind as JSON. The same command goes on where it stopped.
N ?= 2000
SEED ?= 1
fuzz: .venv/.dev
	mkdir -p $(OUT)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.nursery -n $(N) -p 2 --seed $(SEED) --log $(OUT)/fuzz-$(N)-$(SEED).jsonl

words: .venv/.data
	$(BIN)/unnoise data fetch emoji
	$(BIN)/python recipes/tokenizer.py --out runs/tokenizer
	$(call TRAIN,clip)

train-gpu: words
	$(BIN)/python recipes/words.py --layers 2 --out runs/gpu
	$(call TRAIN,gpu/taught)
	$(call TRAIN,gpu/autoencoder)
	$(call TRAIN,gpu/emoji)
	@echo "runs/gpu/emoji/model draws: unnoise evaluate runs/gpu/emoji/model"

train-default: words
	$(call TRAIN,judge-first)
	$(call TRAIN,judge)
	$(call TRAIN,judge-more)
	$(call TRAIN,judge-tinted)
	$(call TRAIN,autoencoder)
	$(BIN)/python recipes/cache.py recipes/emoji.toml
	$(call TRAIN,emoji)
	$(call TRAIN,emoji-more)
	$(call TRAIN,autoencoder-more)
	$(BIN)/python recipes/cache.py recipes/emoji-composed.toml
	$(call TRAIN,emoji-composed)
	$(BIN)/python recipes/words.py
	$(BIN)/python recipes/cache.py recipes/emoji-words.toml
	$(call TRAIN,emoji-words)
	@echo "runs/emoji-words/model draws, runs/judge-tinted/model judges: unnoise evaluate runs/emoji-words/model --judge runs/judge-tinted/model"

bench: .venv/.dev
	$(BIN)/python -m bench.nfe
	$(BIN)/python -m bench.speed
	$(BIN)/python -m bench.speed --model small
	$(BIN)/python -m bench.speed --model sd15
	$(BIN)/python -m bench.train_speed
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.emoji

clean:
	rm -rf .venv build dist out .pytest_cache .ruff_cache .hypothesis
