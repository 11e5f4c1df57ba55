"""Guides by name: what `guide=["color=green:2.0", "clip=a happy face:1"]` and `--guide` mean, built for a
pipeline.

    name=value:weight      weight 1 where it is left out, 0 is off; in the text of `clip` a colon between two
                           digits is the text's own (clip=a clock at 10:30), unless a space stands before it
                           (clip=a house number 7 :2)

    colour=green, #32a541       the object's pixels (what differs from the ground) in a colour of that name;
                                `color` is the same
    mean=#c8dcc8, green         the mean colour of the whole picture
    brightness=.6               its mean luma, 0 to 1
    clip=a happy face           CLIP's cosine to a text, over crops; clip-noised: of the estimate noised to
                                the present level, as in GLIDE
    target=photo.png            the picture itself
    edges=sketch.png            edges where the sketch has them
    style=ref.png               the Gram matrices of the judge's first layers (Gatys et al. 2016)
    judge=a car                 the judge's probability of an answer: a noun, a colour
    smooth                      little total variation

In Python an item may also be a function loss(images (n, 3, h, w) in [0, 1]) -> (n,), or (function, weight);
one that returns a single number, such as `lambda images: images.mean()`, is called with one image at a time,
so that no sample's step depends on another.

`mean` and `style` act where sigma / alpha <= FORMED, the others at every level. The losses are in
`guide.losses`, the step in `guide.steer`; the estimate is decoded inside the gradient. Files are known by
their content: a text that was checked carries it (`photo.png@<16 hex digits>`), so that a recipe made with
another picture of that name is refused.

`texts` understands what is given, `table` names every guide, `plain`, `likeness` and `networks` build them,
`apply` puts them around a denoiser.
"""

from unnoise.pipeline.guides.apply import FORMED, TOGETHER, formed, guided, pictures, settled, wish
from unnoise.pipeline.guides.likeness import trunk
from unnoise.pipeline.guides.networks import clip_for, judge
from unnoise.pipeline.guides.table import GUIDES
from unnoise.pipeline.guides.texts import Guide, Item, parse

__all__ = [
    "FORMED",
    "GUIDES",
    "TOGETHER",
    "Guide",
    "Item",
    "clip_for",
    "formed",
    "guided",
    "judge",
    "parse",
    "pictures",
    "settled",
    "trunk",
    "wish",
]
