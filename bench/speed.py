"""How fast is inference? Our UNet and pipeline against diffusers with the very same weights, steps and
threads.

    python -m bench.speed [--model digits] [--json] [--steps 20] [--batches 1,16] [--repeats 7] [--threads 0]
                          [--device cpu] [--dtype fp32] [--compile]

Rows "forward": one call of the network (batch = rows of the call). Rows "pipeline": prompt to PIL images,
`--steps` calls of DPM-Solver++ 2M each, with classifier-free guidance by batch doubling and without.
diffusers runs in the loop that its documentation shows, under torch.inference_mode, once with contiguous and
once with channels-last weights: `ratio` is against the better of the two. "share" is the rate of the products
alone over the convolution rate that the machine reaches, with the products counted as the plain network has
them (ours does fewer, so a share may pass 1). --model sd15 and small are Stable Diffusion folders: see
bench/stable.py. On other devices than the CPU the plain network is timed (rows "forward" only), compiled on
both sides with --compile.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bench import common, stable
from unnoise.engine.fuse import fuse
from unnoise.pipeline import Pipeline

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LAYOUTS = {"diffusers": torch.contiguous_format, "diffusers channels_last": torch.channels_last}


def forward_row(
    net: nn.Module, twins: dict[str, nn.Module], batch: int, repeats: int, rates: dict, compiled: bool
) -> dict:
    """One network call, all sides checked to give the same."""
    p = next(net.parameters())
    size = net.config.sample_size
    x, t = torch.randn(batch, net.config.in_channels, size, size).to(p), torch.tensor(500, device=p.device)
    labels = torch.arange(batch, device=p.device) % net.config.num_class_embeds
    ours = torch.compile(net) if compiled else fuse(net)
    sides = {"unnoise": lambda: ours(x, t, labels=labels)}
    for k, twin in twins.items():
        call, y = (torch.compile(twin) if compiled else twin), x.contiguous(memory_format=LAYOUTS[k])
        sides[k] = lambda call=call, y=y: call(y, t, None, class_labels=labels).sample
    with torch.inference_mode():
        if p.dtype == torch.float32 and p.device.type == "cpu":
            for run in sides.values():
                torch.testing.assert_close(run(), net(x, t, labels=labels), rtol=1e-3, atol=1e-4)
        seconds = common.alternate(sides, repeats, 2)
    row = {"what": "forward", "batch": batch, "seconds": seconds, **common.ratios(seconds, batch)}
    if not rates:
        return row
    rate = common.flops(net, x, t, labels=labels) / seconds["unnoise"] / 1e9
    return {**row, "gflops": rate, "share": rate / rates["convolution"]}


class Peer:
    """Prompt to pictures by the loop that diffusers documents."""

    def __init__(self, net: nn.Module, pipe: Pipeline, layout: torch.memory_format):
        from diffusers import DPMSolverMultistepScheduler

        self.net, self.pipe, self.layout = net, pipe, layout
        self.scheduler = DPMSolverMultistepScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
        )

    @torch.inference_mode()
    def __call__(self, labels: Tensor, null: int, steps: int, scale: float, seed: int) -> list[Image.Image]:
        n, guided = len(labels), scale != 1
        x = torch.randn(self.pipe.codec.shape(n), generator=torch.Generator().manual_seed(seed))
        x = x.contiguous(memory_format=self.layout)
        labels = torch.cat([torch.full_like(labels, null), labels]) if guided else labels
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            v = self.net(torch.cat([x, x]) if guided else x, t, None, class_labels=labels).sample
            if guided:
                uncond, cond = v.chunk(2)
                v = uncond + scale * (cond - uncond)
            x = self.scheduler.step(v, t, x).prev_sample
        x = torch.nn.functional.pixel_shuffle(x, self.pipe.codec.patch)
        a = ((x / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(np.ascontiguousarray(i[..., 0])) for i in a]


def pipeline_row(
    pipe: Pipeline, twins: dict[str, nn.Module], batch: int, scale: float, steps: int, repeats: int
) -> dict:
    """Prompt to PIL images."""
    prompt = pipe.words.words[7]
    labels = torch.full((batch,), pipe.words.label(prompt))
    sides = {
        "unnoise": (
            lambda: (
                pipe(
                    prompt,
                    num_images=batch,
                    guidance_scale=scale,
                    num_inference_steps=steps,
                    seed=0,
                    sampler="dpmpp_2m",
                    spacing="trailing",
                ).images
            )
        )
    }
    for k, twin in twins.items():
        peer = Peer(twin, pipe, LAYOUTS[k])
        sides[k] = lambda peer=peer: peer(labels, pipe.words.null, steps, scale, 0)
    seconds = common.alternate(sides, repeats)
    row = {"what": "pipeline", "batch": batch, "guidance": scale, "steps": steps, "seconds": seconds}
    return {**row, **common.ratios(seconds, batch)}


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--steps", type=int, default=None, help="20; of sd15 2")
    p.add_argument("--batches", default=None, help="comma-separated; 1,16, of Stable Diffusion 1,8")
    p.add_argument("--model", default="digits", choices=("digits", "small", "sd15"))
    p.add_argument("--folder", type=Path, help="where the sd15 or small folder is, or shall be made")
    p.add_argument(
        "--what",
        default="all",
        choices=("all", "forward", "pipeline", "process"),
        help="which rows, for sd15 and small",
    )
    p.add_argument("--device", default="cpu")
    p.add_argument("--dtype", default="fp32", choices=DTYPES)
    p.add_argument("--compile", action="store_true")
    a = p.parse_args(argv)
    common.ready(a.threads)
    batches = [int(b) for b in (a.batches or ("1,16" if a.model == "digits" else "1,8")).split(",")]
    steps = a.steps or (2 if a.model == "sd15" else 20)
    if a.model != "digits":
        return stable.main(
            a.model,
            a.folder,
            batches,
            steps,
            a.repeats,
            a.threads,
            a.json,
            a.what,
            a.device,
            DTYPES[a.dtype],
            a.compile,
        )
    folder, cpu = common.digits(), a.device == "cpu"
    net = folder.net.to(a.device, DTYPES[a.dtype])
    if not cpu:
        net = net.to(memory_format=torch.channels_last)  # what its convolutions like best there
    twins = {k: common.twin(net, layout) for k, layout in LAYOUTS.items()}
    rates = common.rates() if cpu else {}
    rows = [
        forward_row(net, twins, b, a.repeats, rates, a.compile)
        for b in sorted({*batches, *(2 * b for b in batches)})
    ]
    if cpu and not a.compile and a.dtype == "fp32":
        pipe = Pipeline(folder)
        rows += [
            pipeline_row(pipe, twins, b, scale, steps, a.repeats) for b in batches for scale in (2.0, 1.0)
        ]
    common.report(
        "speed",
        rows,
        a.json,
        model=folder.name,
        device=a.device,
        dtype=a.dtype,
        compiled=a.compile,
        gflops=rates,
    )


if __name__ == "__main__":
    main()
