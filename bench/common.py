"""What the speed benches share: the model, alternated timing, the machine's own rates, output."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from unnoise import hub
from unnoise.codec import Pixels
from unnoise.nets.unet import UNet
from unnoise.text.words import Words
from unnoise.train.recipe import ProcessSection

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that every speed bench has."""
    p = argparse.ArgumentParser(description=doc.splitlines()[0])
    p.add_argument(
        "--repeats", type=int, default=7, help="timings of each side, taken in turn; the median counts"
    )
    p.add_argument("--threads", type=int, default=0, help="threads of both sides (0: PyTorch's default)")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def of_nouns(doc: str) -> argparse.ArgumentParser:
    """The options of a bench that draws one picture of each of some nouns (`nouns`)."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="emoji")
    p.add_argument("--n", type=int, default=40, help="nouns, one picture each")
    p.add_argument("--first", type=int, default=4, help="number of the first noun")
    p.add_argument("--seed", type=int, default=3000, help="of the first picture")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--batch", type=int, default=20)
    p.add_argument("--quick", action="store_true", help="4 nouns, 4 steps")
    p.add_argument("--json", action="store_true")
    p.add_argument("--sheet", type=Path, help="write the first pictures of every row")
    return p


def nouns(a: argparse.Namespace) -> list[str]:
    """a.n labels of the judge, spread evenly over all that it knows. a.quick: 4, and 4 steps."""
    from unnoise.pipeline.guides import judge

    if a.quick:
        a.n, a.steps = 4, 4
    every = judge().heads["noun"]
    return [every[(i * len(every) // a.n + a.first) % len(every)] for i in range(a.n)]


def of_pictures(shown: list[list], labels: list[str], named: list[str], path: Path) -> None:
    """Write a sheet: a row of arrays (h, w, 3) for each label, a column for each of the first nouns."""
    from unnoise.data.nouns import phrase
    from unnoise.pipeline import picture
    from unnoise.show import sheet

    sheet(
        [[picture(x) for x in row] for row in shown], [phrase(x) for x in named[:6]], labels, "", "", least=64
    ).quantize(96).save(path, optimize=True)


def ready(threads: int) -> None:
    """The same number of threads for both sides, and no warnings of peers in the output."""
    warnings.filterwarnings("ignore")
    if threads:
        torch.set_num_threads(threads)
    import diffusers

    diffusers.utils.logging.set_verbosity_error()


def shape() -> dict:
    """The UNet config of recipes/digits.toml, with what follows from its data (28 x 28 in patches of 2, 20
    words).
    """
    net = tomllib.loads(RECIPE.read_text())["net"]
    return {
        **{k: v for k, v in net.items() if k != "kind"},
        "sample_size": 14,
        "in_channels": 4,
        "out_channels": 4,
        "num_class_embeds": 21,
    }


def digits() -> hub.Folder:
    """The bundled digits model; where it is not there, its shape with random weights, which take the same
    time.
    """
    if "digits" in hub.bundled():
        return hub.load("digits")
    torch.manual_seed(0)
    recipe = tomllib.loads(RECIPE.read_text())
    net = UNet(**shape()).eval().requires_grad_(False)
    words = Words(tuple(f"word {i}" for i in range(20)))
    process = ProcessSection(**recipe["process"])
    return hub.Folder("digits (random weights)", net, "unet", Pixels(28, 28, 1, 2, 2), words, process, {}, "")


def twin(net: nn.Module, layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    """diffusers' UNet with the very weights of ours. RuntimeError where a name or a shape differs."""
    from diffusers import UNet2DConditionModel

    config = {k: v for k, v in net.config.model_dump().items() if k != "time"}
    other = UNet2DConditionModel(**config).eval()
    other.load_state_dict(net.state_dict())
    return other.to(next(net.parameters())).to(memory_format=layout)


def alternate(
    sides: dict[str, Callable[[], object]], repeats: int, warm: int | None = None
) -> dict[str, float]:
    """Median seconds of each side. They take turns, so that what disturbs the machine disturbs all of them
    alike. warm: rounds before those that count; 1, and none before a single one, which measures nothing.
    """
    warm = int(repeats > 1) if warm is None else warm
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(-warm, repeats):
        for name, run in sides.items():
            _settle()
            began = time.perf_counter()
            run()
            _settle()
            if i >= 0:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(t) for name, t in times.items()}


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(seconds: dict[str, float], images: int) -> dict:
    """Images a second of each side, and ours over the best of the others."""
    best = min(v for k, v in seconds.items() if k != "unnoise")
    return {"images_per_s": {k: images / v for k, v in seconds.items()}, "ratio": best / seconds["unnoise"]}


def rates(n: int = 1024) -> dict[str, float]:
    """The machine's own float32 speeds in GFLOP/s: PyTorch's matrix product, oneDNN's, and its 3x3
    convolution.
    """
    a, b = torch.randn(n, n), torch.randn(n, n)
    x = torch.randn(32, 128, 14, 14).to(memory_format=torch.channels_last)
    w = torch.randn(128, 128, 3, 3).to(memory_format=torch.channels_last)
    sides: dict[str, Callable[[], object]] = {
        "matmul": lambda: a @ b,
        "convolution": lambda: torch.conv2d(x, w, padding=1),
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        packed = torch.ops.mkldnn._reorder_linear_weight(b, n)
        sides["onednn_matmul"] = lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
    work = {"matmul": 2 * n**3, "onednn_matmul": 2 * n**3, "convolution": 2 * 32 * 14 * 14 * 128 * 128 * 9}
    with torch.inference_mode():
        seconds = alternate(sides, 9, 2)
    return {k: work[k] / s / 1e9 for k, s in seconds.items()}


def flops(net: nn.Module, *args, **kwargs) -> int:
    """Floating-point operations of the products in one forward pass of the plain network."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*args, **kwargs)
    return counter.get_total_flops()


def report(name: str, rows: list[dict], as_json: bool, **extra) -> None:
    """One JSON object, or a line a row."""
    machine = {"cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if as_json:
        print(json.dumps({"bench": name, "machine": machine, **extra, "rows": rows}))
    else:
        print(name, json.dumps({**machine, **extra}), *map(_line, rows), sep="\n")


def _line(row: dict) -> str:
    return "  ".join(f"{k} {_short(v)}" for k, v in row.items())


def _short(v: object) -> str:
    if isinstance(v, float):
        return f"{v:.3g}"
    return ", ".join(f"{k} {_short(x)}" for k, x in v.items()) if isinstance(v, dict) else str(v)
