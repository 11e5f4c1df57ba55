"""How long from starting the process to the first PNG on disk? Our command against a minimal script with
diffusers.

    python -m bench.startup [--json] [--steps 20] [--repeats 5] [--threads 0]

Ours is `unnoise generate PROMPT --model FOLDER -o FILE`; theirs a script that imports what it needs and no
more, reads the same weights from the same folder, draws one picture with guidance in as many steps of the
same method, and writes it. "light": seconds of bare `python -c pass`, `import unnoise`, `import torch` alone
and `unnoise --help`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import common
from unnoise import hub

SCRIPT = """
import sys
import torch
from PIL import Image
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
folder, out, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
net = UNet2DConditionModel.from_pretrained(folder + "/unet", low_cpu_mem_usage=False)
scheduler = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
                                        timestep_spacing="trailing")
with torch.inference_mode():
    x, labels = torch.randn(1, 4, 14, 14), torch.tensor([20, 7])
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        u, c = net(torch.cat([x, x]), t, None, class_labels=labels).sample.chunk(2)
        x = scheduler.step(u + 2.0 * (c - u), t, x).prev_sample
    x = torch.nn.functional.pixel_shuffle(x, 2) / 2 + 0.5
    a = (x.clamp(0, 1) * 255).round().to(torch.uint8)[0, 0].numpy()
    Image.fromarray(a).save(out)
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
    with tempfile.TemporaryDirectory() as tmp:
        model, png, script = Path(tmp, "model"), Path(tmp, "a.png"), Path(tmp, "peer.py")
        f = common.digits()
        hub.save(
            model,
            name="digits",
            kind=f.kind,
            net=f.net,
            weights=None,
            codec=f.codec,
            words=f.words,
            process=f.process,
        )
        script.write_text(SCRIPT)
        cli, steps = [sys.executable, "-m", "unnoise.cli.main"], str(a.steps)

        def run(*command: str | Path) -> None:
            subprocess.run(command, env=env, check=True, capture_output=True)

        def picture(*command: str | Path) -> None:
            png.unlink(missing_ok=True)
            run(*command)
            if not png.exists():
                raise RuntimeError(f"no picture was written by {command}")

        draw = (
            *cli,
            "generate",
            f.words.words[7],
            "--model",
            model,
            "-o",
            png,
            "--steps",
            steps,
            "--guidance",
            "2",
            "--sampler",
            "dpmpp_2m",
            "--seed",
            "0",
        )
        seconds = common.alternate(
            {
                "unnoise": lambda: picture(*draw),
                "diffusers": lambda: picture(sys.executable, script, model, png, steps),
            },
            a.repeats,
        )
        light = common.alternate(
            {
                "python": lambda: run(sys.executable, "-c", "pass"),
                "import": lambda: run(sys.executable, "-c", "import unnoise"),
                "torch": lambda: run(sys.executable, "-c", "import torch"),
                "help": lambda: run(*cli, "--help"),
            },
            a.repeats,
        )
    rows = [
        {
            "what": "first PNG",
            "steps": a.steps,
            "seconds": seconds,
            "share": seconds["unnoise"] / seconds["diffusers"],
        },
        {"what": "light", "seconds": light},
    ]
    common.report("startup", rows, a.json)


if __name__ == "__main__":
    main()
