"""Make the latents that a recipe will want, shared out over processes: each makes every N-th file.

python recipes/cache.py recipes/emoji.toml [--processes 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path


def make(recipe: Path, k: int, n: int) -> None:
    import torch

    from unnoise.train import recipe as recipes
    from unnoise.train.sources.latents import open_latents

    torch.set_num_threads(1)
    wanted = recipes.load(recipe)
    open_latents(wanted, wanted.data.split, slice(k, None, n))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("recipe", type=Path)
    p.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    a = p.parse_args()
    running = [
        multiprocessing.get_context("spawn").Process(target=make, args=(a.recipe, k, a.processes))
        for k in range(a.processes)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    raise SystemExit(max(process.exitcode or 0 for process in running))


if __name__ == "__main__":
    main()
