"""Stable Diffusion folders with random weights: ours against diffusers on the same files, float32, the same
sampler and steps.

    python -m bench.speed --model sd15|small [--json] [--steps N] [--batches 1,8] [--repeats 5] [--threads 0]
    [--folder DIR]
                          [--what all|forward|pipeline|process] [--device cpu] [--dtype fp32] [--compile]

"sd15" has the shape of Stable Diffusion 1.5 (860 M parameters in the UNet, 64 x 64 latents, 512 x 512
pictures), "small" a UNet of 23 M on 16 x 16 x 4 latents. Rows "forward": one call of the UNet with the
prompt's keys and values ready, as in a run. Rows "pipeline": prompt to PIL images with guidance 7.5 by
DPM-Solver++ 2M. Row "process": one process from its start to the PNG on disk, with its peak memory (the
largest resident set, files that are mapped included), each side in processes of its own, in turn; "lean", of
sd15, is ours with a memory budget of 0.6 of diffusers' peak. diffusers' own pipeline is timed with contiguous
and with channels-last weights; `ratio` is against the better.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import unnoise
from bench import common
from tests.support import sd

PROMPT, NEGATIVE, SCALE = "a photo of an astronaut riding a horse on mars", "red apples", 7.5
PEER = """
import sys, torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
folder, out, steps, prompt, negative = sys.argv[1:]
pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
pipe.set_progress_bar_config(disable=True)
pipe(prompt, negative_prompt=negative, num_inference_steps=int(steps), guidance_scale=7.5,
     generator=torch.Generator().manual_seed(0)).images[0].save(out)
"""


def folder(shape: str, at: Path) -> Path:
    """The model folder, made where it is not there yet."""
    if not (at / "model_index.json").exists():
        sd.make(
            at,
            **(sd.SD15 if shape == "sd15" else sd.SMALL),
            tokenizer=sd.write_tokenizer(at.with_name(f"{at.name}-words")),
        )
    return at


def peers(model: Path, device: str, dtype: torch.dtype, compiled: bool) -> dict:
    """diffusers' pipeline in both layouts."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    out = {}
    for name, layout in (
        ("diffusers", torch.contiguous_format),
        ("diffusers channels_last", torch.channels_last),
    ):
        pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, torch_dtype=dtype).to(
            device
        )
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(
            pipe.scheduler.config, timestep_spacing="trailing"
        )
        pipe.set_progress_bar_config(disable=True)
        for part in (pipe.unet, pipe.vae):
            part.to(memory_format=layout)
        if compiled:
            pipe.unet = torch.compile(pipe.unet)
        out[name] = pipe
    return out


def forward_row(pipe: unnoise.Pipeline, others: dict, rows: int, repeats: int, rates: dict) -> dict:
    """One call of the UNet on `rows` rows, all sides checked to give the same."""
    shape, c, on, dtype = pipe.codec.shape(rows), pipe.net.config, pipe.runner.device, pipe.runner.dtype
    x, t, context = (
        torch.randn(shape, device=on),
        torch.tensor(500, device=on),
        torch.randn(rows, 77, c.cross_attention_dim, device=on),
    )
    fast, ready = pipe.fast, pipe.runner.prepared(context)()
    sides: dict[str, Callable[[], torch.Tensor]] = {"unnoise": lambda: fast(x, t, context=ready)}
    for name, p in others.items():
        y = x.to(dtype).contiguous(
            memory_format=torch.channels_last if "last" in name else torch.contiguous_format
        )
        sides[name] = lambda p=p, y=y: p.unet(y, t, context.to(dtype)).sample
    with torch.inference_mode():
        want, near = sides["diffusers"](), 1e-3 if dtype == torch.float32 else 0.1
        for name, run in sides.items():
            torch.testing.assert_close(
                run().float(), want.float(), rtol=near, atol=near, msg=lambda m, name=name: f"{name}: {m}"
            )
        seconds = common.alternate(sides, repeats, 0 if on.type == "cpu" else 2)
        row = {
            "what": "forward",
            "rows": rows,
            "seconds": seconds,
            **common.ratios(seconds, rows),
            "peak_bytes": _peaks(sides),
        }
        if not rates:
            return row
        rate = rows * common.flops(others["diffusers"].unet, x[:1], t, context[:1]) / seconds["unnoise"] / 1e9
    return {**row, "gflops": rate, "share": rate / rates["convolution"]}


def _peaks(sides: dict[str, Callable[[], object]]) -> dict[str, int]:
    """The most memory of a GPU that each side takes beside the weights of all; empty on a CPU."""
    out = {}
    for name, run in sides.items() if torch.cuda.is_available() else ():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        out[name] = torch.cuda.max_memory_allocated() - before
    return out


def pipeline_row(pipe: unnoise.Pipeline, others: dict, batch: int, steps: int, repeats: int) -> dict:
    """Prompt to PIL images."""
    sides: dict[str, Callable[[], object]] = {
        "unnoise": (
            lambda: (
                pipe(
                    PROMPT,
                    negative_prompt=NEGATIVE,
                    num_images=batch,
                    guidance_scale=SCALE,
                    num_inference_steps=steps,
                    seed=0,
                    sampler="dpmpp_2m",
                    spacing="trailing",
                    batch_size=batch,
                ).images
            )
        )
    }
    for name, p in others.items():
        sides[name] = lambda p=p: (
            p(
                PROMPT,
                negative_prompt=NEGATIVE,
                num_images_per_prompt=batch,
                guidance_scale=SCALE,
                num_inference_steps=steps,
                generator=torch.Generator().manual_seed(0),
            ).images
        )
    seconds = common.alternate(sides, repeats)
    return {
        "what": "pipeline",
        "batch": batch,
        "steps": steps,
        "seconds": seconds,
        **common.ratios(seconds, batch),
        "peak_bytes": _peaks(sides),
    }


def process_row(model: Path, steps: int, repeats: int, threads: int) -> dict:
    """Seconds and peak memory of whole processes."""
    env = {**os.environ, "PYTHONWARNINGS": "ignore", **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with tempfile.TemporaryDirectory() as tmp:
        png, script = Path(tmp, "a.png"), Path(tmp, "peer.py")
        script.write_text(PEER)
        ours = [
            sys.executable,
            "-m",
            "unnoise.cli.main",
            "generate",
            PROMPT,
            "--negative",
            NEGATIVE,
            "--model",
            str(model),
            "-o",
            str(png),
            "--steps",
            str(steps),
            "--guidance",
            str(SCALE),
            "--sampler",
            "dpmpp_2m",
            "--spacing",
            "trailing",
            "--seed",
            "0",
        ]
        theirs = [sys.executable, str(script), str(model), str(png), str(steps), PROMPT, NEGATIVE]
        peak = _run(theirs, env, png)[1]
        sides = {"unnoise": ours, "diffusers": theirs}
        if peak > 2e9:
            sides["lean"] = [*ours, "--memory-budget", str(int(0.6 * peak))]
        for command in sides.values():
            _run(command, env, png)  # what follows finds the files in memory
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, command in sides.items():
                found[name].append(_run(command, env, png))
    seconds, memory = ({k: statistics.median(r[i] for r in v) for k, v in found.items()} for i in (0, 1))
    share = lambda d, k: d[k] / d["diffusers"]
    return {
        "what": "process",
        "steps": steps,
        "seconds": seconds,
        "peak_bytes": memory,
        "share_of_time": {k: share(seconds, k) for k in seconds},
        "share_of_memory": {k: share(memory, k) for k in memory},
    }


def _run(command: list[str], env: dict, png: Path) -> tuple[float, int]:
    """Seconds and the peak resident set, in bytes, of one process that must write a picture."""
    png.unlink(missing_ok=True)
    began = time.perf_counter()
    p = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert p.stderr is not None
    said = p.stderr.read().decode()
    _, status, usage = os.wait4(p.pid, 0)
    seconds = time.perf_counter() - began
    if status or not png.exists():
        raise RuntimeError(f"no picture was written by {command}: {said[-2000:]}")
    return seconds, usage.ru_maxrss * 1024


def main(
    shape: str,
    at: Path | None,
    batches: list[int],
    steps: int,
    repeats: int,
    threads: int,
    as_json: bool,
    what: str,
    device: str,
    dtype: torch.dtype,
    compiled: bool,
) -> None:
    """All rows of one shape; whole processes on the CPU only."""
    cpu = device == "cpu"
    with tempfile.TemporaryDirectory() as tmp:
        model = folder(shape, at or Path(tmp, shape))
        rows, rates = [], common.rates() if cpu else {}
        if what in ("all", "process") and cpu:
            rows.append(process_row(model, steps, max(3, repeats // 2), threads))
        if what != "process":
            pipe, others = (
                unnoise.load(model, device=device, dtype=dtype, compile=compiled),
                peers(model, device, dtype, compiled),
            )
            if what in ("all", "forward"):
                rows += [forward_row(pipe, others, 2 * b, repeats, rates) for b in batches]
            if what in ("all", "pipeline"):
                rows += [pipeline_row(pipe, others, b, steps, repeats) for b in batches]
    common.report(
        "speed", rows, as_json, model=shape, device=device, dtype=str(dtype), compiled=compiled, gflops=rates
    )
