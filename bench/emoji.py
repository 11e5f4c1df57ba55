"""The default model, from starting the process to the PNG, and per picture at batch 4: ours beside diffusers
on the very same folder.

    python -m bench.emoji [--json] [--steps 20] [--repeats 5] [--threads 0]

Theirs is StableDiffusionPipeline.from_pretrained on the folder (without the image encoder, which drawing does
not need), the same prompt, guidance, steps and solver. Both sides run in float32 on the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import common
from unnoise import hub

PROMPT, GUIDANCE = "two red apples on their side", "5.0"
SCRIPT = f"""
import sys
import torch
from diffusers import StableDiffusionPipeline
folder, out, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
pipe = StableDiffusionPipeline.from_pretrained(
    folder, image_encoder=None, safety_checker=None, low_cpu_mem_usage=False, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
pipe("{PROMPT}", height=64, width=64, num_inference_steps=steps, guidance_scale={GUIDANCE},
     generator=torch.Generator().manual_seed(0)).images[0].save(out)
"""


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--steps", type=int, default=20)
    a = p.parse_args(argv)
    common.ready(a.threads)
    env = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        **({"OMP_NUM_THREADS": str(a.threads)} if a.threads else {}),
    }
    folder = hub.find("emoji")
    with tempfile.TemporaryDirectory() as tmp:
        png, script = Path(tmp, "a.png"), Path(tmp, "peer.py")
        script.write_text(SCRIPT)

        def picture(*command: str | Path) -> None:
            png.unlink(missing_ok=True)
            subprocess.run(command, env=env, check=True, capture_output=True)
            if not png.exists():
                raise RuntimeError(f"no picture was written by {command}")

        draw = (
            sys.executable,
            "-m",
            "unnoise.cli.main",
            "generate",
            PROMPT,
            "-n",
            "1",
            "-o",
            png,
            "--steps",
            str(a.steps),
            "--guidance",
            GUIDANCE,
            "--seed",
            "0",
        )
        seconds = common.alternate(
            {
                "unnoise": lambda: picture(*draw),
                "diffusers": lambda: picture(sys.executable, script, folder, png, str(a.steps)),
            },
            a.repeats,
        )
    rows = [
        {
            "what": "process start to PNG",
            "steps": a.steps,
            "seconds": seconds,
            "share": seconds["unnoise"] / seconds["diffusers"],
        },
        _batch(folder, a),
    ]
    common.report("emoji", rows, a.json)


def _batch(folder: Path, a) -> dict:
    """Seconds a picture at batch 4, models loaded."""
    import torch
    from diffusers import StableDiffusionPipeline

    import unnoise

    ours = unnoise.load(folder, device="cpu", dtype="fp32")
    theirs = StableDiffusionPipeline.from_pretrained(
        folder, image_encoder=None, safety_checker=None, low_cpu_mem_usage=False, torch_dtype=torch.float32
    )
    theirs.set_progress_bar_config(disable=True)
    theirs.unet.to(memory_format=torch.channels_last)
    same = {"num_inference_steps": a.steps, "guidance_scale": float(GUIDANCE)}
    seconds = common.alternate(
        {
            "unnoise": lambda: ours(PROMPT, seed=0, num_images=4, batch_size=4, **same),
            "diffusers": lambda: theirs(
                [PROMPT] * 4, height=64, width=64, generator=torch.Generator().manual_seed(0), **same
            ),
        },
        a.repeats,
    )
    each = {k: v / 4 for k, v in seconds.items()}
    return {
        "what": "picture at batch 4",
        "steps": a.steps,
        "seconds": each,
        "ratio": each["diffusers"] / each["unnoise"],
    }


if __name__ == "__main__":
    main()
