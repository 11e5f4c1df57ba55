"""`unnoise edit …`: one file a group of commands; each reads a picture and writes another beside it."""

from __future__ import annotations

import typer

from unnoise.cli.edit import image, imagic, inpaint, invert, restore, style

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.command("image-to-image")(image.image_to_image)
app.command("style")(style.style)
app.command("invert")(invert.invert)
app.command("diffedit")(invert.diffedit)
app.command("prompt-to-prompt")(invert.prompt_to_prompt)
app.command("imagic")(imagic.imagic)
app.command("inpaint")(inpaint.inpaint)
app.command("outpaint")(inpaint.outpaint)
app.command("zoom-out")(inpaint.zoom_out)
app.command("upscale")(restore.upscale)
app.command("denoise")(restore.denoise)
app.command("anomaly")(restore.anomaly)
