# make demo: set up and draw. make test: set up and check everything. Both need Python 3.11+, git and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out

# make train-default: the default model from nothing. RECIPES=recipes/gpu is the full size, for one GPU; FLAGS=--resume goes on.
RECIPES ?= recipes
FLAGS ?=

.PHONY: demo test lint bench clean train-default

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
	$(BIN)/pyright

test: .venv/.dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

train-default: .venv/.data
	$(BIN)/unnoise data fetch emoji
	$(BIN)/python recipes/tokenizer.py --out runs/tokenizer
	$(BIN)/unnoise train $(RECIPES)/clip.toml --out runs/clip $(FLAGS)
	$(BIN)/unnoise train $(RECIPES)/judge-first.toml --out runs/judge-first $(FLAGS)
	$(BIN)/unnoise train $(RECIPES)/judge.toml --out runs/judge $(FLAGS)
	if [ -f $(RECIPES)/judge-more.toml ]; then $(BIN)/unnoise train $(RECIPES)/judge-more.toml --out runs/judge-more $(FLAGS); fi
	if [ -f $(RECIPES)/judge-tinted.toml ]; then $(BIN)/unnoise train $(RECIPES)/judge-tinted.toml --out runs/judge-tinted $(FLAGS); fi
	$(BIN)/unnoise train $(RECIPES)/autoencoder.toml --out runs/autoencoder $(FLAGS)
	$(BIN)/python recipes/cache.py $(RECIPES)/emoji.toml
	$(BIN)/unnoise train $(RECIPES)/emoji.toml --out runs/emoji $(FLAGS)
	if [ -f $(RECIPES)/emoji-more.toml ]; then $(BIN)/unnoise train $(RECIPES)/emoji-more.toml --out runs/emoji-more $(FLAGS); fi
	if [ -f $(RECIPES)/autoencoder-more.toml ]; then $(BIN)/unnoise train $(RECIPES)/autoencoder-more.toml --out runs/autoencoder-more $(FLAGS); fi
	if [ -f $(RECIPES)/emoji-composed.toml ]; then $(BIN)/python recipes/cache.py $(RECIPES)/emoji-composed.toml && $(BIN)/unnoise train $(RECIPES)/emoji-composed.toml --out runs/emoji-composed $(FLAGS); fi
	if [ -f $(RECIPES)/emoji-words.toml ]; then $(BIN)/python recipes/words.py && $(BIN)/python recipes/cache.py $(RECIPES)/emoji-words.toml && $(BIN)/unnoise train $(RECIPES)/emoji-words.toml --out runs/emoji-words $(FLAGS); fi
	@echo "runs/emoji-words/model draws (at full size runs/emoji/model), runs/judge-tinted/model judges (runs/judge/model): unnoise evaluate runs/emoji-words/model --judge runs/judge-tinted/model"

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
