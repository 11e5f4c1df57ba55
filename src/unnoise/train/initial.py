"""Weights to begin with."""

from __future__ import annotations

from torch import nn

BRANCH_ENDS = (
    "conv2",
    "to_out.0",
    "ff.net.2",
    "proj_out",
)  # the last layer of what is added to a residual stream


def near_linear(net: nn.Module, branch: float = 0.2) -> None:
    """Draw the convolutions and linear layers of a UNet or autoencoder anew, in place: variance 1 / fan-in,
    so that each keeps the variance of what it is given, times `branch`^2 where it ends a residual branch;
    biases 0. The network begins close to a linear one.

    PyTorch's own initial layers keep a third of the variance. Seven of them in a row, as on an autoencoder's
    way to its latents, leave so little of a picture's colours (most of its variance is light and dark) that
    thousands of steps pass before they come through.
    """
    for name, m in net.named_modules():
        if not isinstance(m, (nn.Conv2d, nn.Linear)):
            continue
        nn.init.normal_(
            m.weight, std=(branch if name.endswith(BRANCH_ENDS) else 1.0) * m.weight[0].numel() ** -0.5
        )
        if m.bias is not None:
            nn.init.zeros_(m.bias)
