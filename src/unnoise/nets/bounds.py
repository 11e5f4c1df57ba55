"""The numbers of a network's config: whole and bounded, so that a damaged file is refused before anything is
built by it.

The bounds lie well above every published network of these kinds; within them a network on the meta device is
built in a second and takes no memory. Booleans and text are no numbers here, though pydantic would take them
for some.
"""

from typing import Annotated

from pydantic import Field

Flag = Annotated[bool, Field(strict=True)]
Width = Annotated[int, Field(strict=True, ge=1, le=65_536)]  # channels, features, sides in pixels
Count = Annotated[int, Field(strict=True, ge=1, le=2_000_000)]  # of tokens, classes, entries
Classes = Annotated[int, Field(strict=True, ge=0, le=2_000_000)]  # 0: as many as none
Depth = Annotated[int, Field(strict=True, ge=1, le=16)]  # layers of one resolution
Layers = Annotated[int, Field(strict=True, ge=1, le=256)]  # of a stack
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Small = Annotated[float, Field(strict=True, gt=0, le=1)]  # a norm's epsilon
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=10)]  # one a resolution
Kinds = Annotated[tuple[str, ...], Field(max_length=10)]


def other_channels(shape: tuple[int, ...], channels: int) -> str | None:
    """What is wrong with samples (c, h, w) for a network of so many channels, in words, or None."""
    if len(shape) != 3:
        return "vectors, the network takes pictures"
    if shape[0] != channels:
        return f"pictures of {shape[0]} channels, the network has {channels}"
    return None
