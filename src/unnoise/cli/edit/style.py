"""`unnoise edit style`."""
from __future__ import annotations

from typing import Annotated, Optional

import typer

from unnoise.cli.edit import common as c

_AMOUNT = "How much: the reference's share in the attention (2), the weight of the loss (1), the adapter's scale (1); 0 is off."


def style(
    reference: Annotated[c.Path, typer.Argument(help="The picture whose style to take; it is not changed.")],
    prompt: c.Prompt = "",
    method: Annotated[str, typer.Option("--method", help="aligned (shared attention), loss (Gram matrices as guidance) or adapter.")] = "aligned",
    amount: Annotated[Optional[float], typer.Option("--amount", help=_AMOUNT)] = None,  # noqa: UP045
    adapter: Annotated[Optional[c.Path], typer.Option("--adapter", metavar="FILE", help="Of --method adapter: what recipes/style.py trained.")] = None,  # noqa: UP045
    reference_prompt: Annotated[str, typer.Option("--reference-prompt", metavar="PROMPT", help="Of --method aligned: what the reference shows.")] = "",
    output: c.Output = None, overwrite: c.Overwrite = False, n: c.Number = 1, model: c.Model = c.DEFAULT, steps: c.Steps = None,
    guidance: c.Guidance = None, negative: c.Negative = "", seed: c.Seed = None, sampler: c.Sampler = None, height: c.Height = None,
    width: c.Width = None, batch_size: c.BatchSize = None, as_json: c.Json = False,
) -> None:
    """Draw a prompt in the style of a reference picture."""
    how = c.given(negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, seed=seed, sampler=sampler, height=height, width=width)

    def run(pipe, advance):
        from unnoise.edit.style import style as edit

        return edit(pipe, reference, prompt, method=method, amount=amount, reference_prompt=reference_prompt, adapter=adapter, num_images=n,
                    batch_size=batch_size, progress=advance, **how)
    c.edit(model, reference, output, overwrite, as_json, run)
