"""How fast is training? Our `fit` against diffusers' UNet2DConditionModel in a plain PyTorch loop, same
shapes and batch.

    python -m bench.train_speed [--json] [--batch 64] [--steps 2] [--repeats 7] [--threads 0]
                                [--device cpu] [--dtype fp32] [--compile]

Ours is the whole of what `unnoise train recipes/digits.toml` does at a step: reading and encoding items,
seeded noise for each sample, forward, backward, clipping, fused AdamW and two averages of the weights. The
plain loop gets its batch ready in memory, draws noise with torch.randn, adds it with DDPMScheduler.add_noise,
and has clipping, fused AdamW and no average of the weights; "diffusers + ema" adds two of its EMAModel. Each
with contiguous and with channels-last weights; `ratio` is against the best of the loops without averages,
`ratio_ema` against the best with them: what both sides do. --device other than cpu, --dtype and --compile
time a bare step (forward, backward, AdamW) of the two networks alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench import common
from bench.speed import DTYPES, LAYOUTS
from unnoise.nets.unet import UNet
from unnoise.train.fit import fit, prepare
from unnoise.train.recipe import Recipe


def ours(batch: int, folder: Path) -> Callable[[], None]:
    """One step of `fit` on the digits recipe, its data replaced by random pictures of the same form."""
    import tomllib

    rng = np.random.default_rng(0)
    x, words = (
        rng.integers(0, 256, (20 * batch, 28, 28, 1), dtype=np.uint8),
        np.array([f"w{i}" for i in range(20)]),
    )
    np.savez(folder / "x.npz", x=x, labels=np.arange(20 * batch) % 20, words=words)
    d = tomllib.loads(common.RECIPE.read_text())
    d["data"]["name"], d["train"]["batch"], d["train"]["steps"] = str(folder / "x.npz"), batch, 1_000_000
    run = prepare(Recipe(**d))
    steps = fit(run)
    return lambda: next(steps)


def theirs(net: nn.Module, batch: int, layout: torch.memory_format, ema: bool) -> Callable[[], None]:
    """One step of the plain loop."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    net = common.twin(net, layout).train().requires_grad_(True)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    averages = [EMAModel(net.parameters(), decay=0.999) for _ in range(2 * ema)]
    x0, labels = torch.rand(batch, 4, 14, 14) * 2 - 1, torch.arange(batch) % 20

    def step() -> None:
        eps, t = torch.randn_like(x0), torch.randint(0, 1000, (batch,))
        x = scheduler.add_noise(x0, eps, t).contiguous(memory_format=layout)
        loss = F.mse_loss(net(x, t, None, class_labels=labels).sample, scheduler.get_velocity(x0, eps, t))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        for e in averages:
            e.step(net.parameters())
        loss.item()

    return step


def bare(
    net: nn.Module, batch: int, call: Callable, dtype: torch.dtype, compiled: bool
) -> Callable[[], None]:
    """Forward, backward and AdamW of one network, in mixed precision."""
    device = next(net.parameters()).device
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    x, labels = torch.randn(batch, 4, 14, 14, device=device), torch.arange(batch, device=device) % 20
    t, run = torch.randint(0, 1000, (batch,), device=device), torch.compile(net) if compiled else net

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            out = call(run, x, t, labels)
        out.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def whole(batch: int, steps: int, repeats: int) -> dict:
    """The row of whole training steps on the CPU."""
    net = UNet(**common.shape())
    with tempfile.TemporaryDirectory() as tmp:
        sides = {"unnoise": ours(batch, Path(tmp))}
        for k, layout in LAYOUTS.items():
            for ema in (False, True):
                sides[k + " + ema" * ema] = theirs(net, batch, layout, ema)
        seconds = common.alternate({k: _times(run, steps) for k, run in sides.items()}, repeats)
    row = common.ratios({k: v for k, v in seconds.items() if "ema" not in k}, batch * steps)
    x = torch.randn(batch, 4, 14, 14)
    once = common.flops(net, x, torch.tensor(500), labels=torch.zeros(batch, dtype=torch.long))
    work = 3 * steps * once  # the backward pass has twice the products of the forward
    best = min(v for k, v in seconds.items() if "ema" in k)
    return {
        "what": "training",
        "batch": batch,
        "seconds": seconds,
        **row,
        "ratio_ema": best / seconds["unnoise"],
        "gflops": work / seconds["unnoise"] / 1e9,
    }


def _times(run: Callable[[], None], n: int) -> Callable[[], None]:
    return lambda: [run() for _ in range(n)] and None


def networks(batch: int, steps: int, repeats: int, device: str, dtype: torch.dtype, compiled: bool) -> dict:
    """The row of bare steps on any device."""
    net = UNet(**common.shape()).to(device, memory_format=torch.channels_last)
    sides = {"unnoise": bare(net, batch, lambda f, x, t, y: f(x, t, labels=y), dtype, compiled)}
    for k, layout in LAYOUTS.items():
        peer = common.twin(net, layout).train().requires_grad_(True)
        sides[k] = bare(peer, batch, lambda f, x, t, y: f(x, t, None, class_labels=y).sample, dtype, compiled)
    seconds = common.alternate({k: _times(run, steps) for k, run in sides.items()}, repeats, 2)
    return {"what": "bare step", "batch": batch, "seconds": seconds, **common.ratios(seconds, batch * steps)}


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--device", default="cpu")
    p.add_argument("--dtype", default="fp32", choices=DTYPES)
    p.add_argument("--compile", action="store_true")
    a = p.parse_args(argv)
    common.ready(a.threads)
    plain = a.device == "cpu" and a.dtype == "fp32" and not a.compile
    row = (
        whole(a.batch, a.steps, a.repeats)
        if plain
        else networks(a.batch, a.steps, a.repeats, a.device, DTYPES[a.dtype], a.compile)
    )
    common.report(
        "train_speed",
        [row],
        a.json,
        device=a.device,
        dtype=a.dtype,
        compiled=a.compile,
        gflops=common.rates() if plain else {},
    )


if __name__ == "__main__":
    main()
