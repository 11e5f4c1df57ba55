"""`unnoise edit style`."""

from __future__ import annotations

from typing import Annotated

import typer

from unnoise.cli.edit import common as c

_AMOUNT = (
    "How much: the reference's share in the attention (2), the weight of the loss (1), the adapter's scale"
    " (1); 0 is off."
)
Reference = Annotated[c.Path, typer.Argument(help="The picture whose style to take; it is not changed.")]
Method = Annotated[
    str,
    typer.Option("--method", help="aligned (shared attention), loss (Gram matrices as guidance) or adapter."),
]
Amount = Annotated[float | None, typer.Option("--amount", help=_AMOUNT)]
Adapter = Annotated[
    c.Path | None,
    typer.Option("--adapter", metavar="FILE", help="Of --method adapter: what recipes/style.py trained."),
]
Shows = Annotated[
    str,
    typer.Option(
        "--reference-prompt", metavar="PROMPT", help="Of --method aligned: what the reference shows."
    ),
]


@c.command()
def style(
    reference: Reference,
    prompt: c.Prompt = "",
    method: Method = "aligned",
    amount: Amount = None,
    adapter: Adapter = None,
    reference_prompt: Shows = "",
    *,
    common: c.Common,
) -> None:
    """Draw a prompt in the style of a reference picture."""

    def run(pipe, advance, **how):
        from unnoise.edit.style import style as edit

        return edit(
            pipe,
            reference,
            prompt,
            method=method,
            amount=amount,
            reference_prompt=reference_prompt,
            adapter=adapter,
            progress=advance,
            **how,
        )

    c.edit(common, reference, run)
