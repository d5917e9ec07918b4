"""A network with its scaling inside, as one graph: raw stamps in, `p_real` out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rb.models.checkpoint import NetworkScorer
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import CHANNELS


class ScoringGraph(nn.Module):
    """What is exported: scaling, network, softmax.

    The same function as `InputSpec.prepare` and the network after it, in operations that every
    engine has.

    Parameters
    ----------
    scorer : NetworkScorer
        The network and what it is fed. Variance planes cannot be exported.
    """

    def __init__(self, scorer: NetworkScorer) -> None:
        super().__init__()
        self.network = scorer.network
        self.inputs = scorer.inputs

    def forward(self, stamps: Tensor, side: Tensor | None = None) -> tuple[Tensor, ...]:
        """`p_real` (N,) and, if the network has one, its embedding (N, E).

        Parameters
        ----------
        stamps : Tensor of shape (N, 3, S, S)
            Raw pixels: difference, search, template.
        side : Tensor of shape (N, n_side), optional
            Side information, in the order of `InputSpec.side`.
        """
        x = prepared(stamps, self.inputs)
        more = () if side is None else (torch.where(torch.isfinite(side), side, 0.0),)
        embed = getattr(self.network, "embed", None)
        if embed is None:
            return (self.network(x, *more).softmax(1)[:, 0],)
        embedding = embed(x, *more)
        return self.network.classify(embedding).softmax(1)[:, 0], embedding


def prepared(stamps: Tensor, inputs: InputSpec) -> Tensor:
    """Raw stamps (N, 3, S, S) to the network's input (N, C, H, W)."""
    planes = [
        scaled(stamps[:, CHANNELS.index(channel)], inputs.scaling[channel])
        for channel in inputs.channels
    ]
    if inputs.stacking == "depth":
        return torch.stack(planes, 1)
    return torch.cat(planes, -1)[:, None]


def scaled(stamps: Tensor, scaling: str) -> Tensor:
    """`rb.stamps.scaling.scale` of stamps (N, S, S) in operations that ONNX knows.

    Where the original takes the next float32 beyond a limit in double precision, this compares
    in double precision, which is the same.
    """
    shape = stamps.shape
    x = stamps.flatten(1)
    finite = torch.isfinite(x)
    n = finite.sum(1, keepdim=True).clamp(min=1).double()
    mean = torch.where(finite, x, 0.0).double().sum(1, keepdim=True) / n
    near = mean.float()
    deviation = torch.where(finite, x - near, 0.0)
    square = (deviation * deviation).double().sum(1, keepdim=True) / n
    std = (square - (mean - near) ** 2).clamp(min=0).sqrt()
    x = torch.where(finite, x, near)
    if scaling == "raw":
        return x.reshape(shape)
    if scaling == "three_sigma":
        exact = x.double()
        inside = (exact > mean - 3 * std) & (exact < mean + 3 * std) & finite
        low = torch.where(inside, x, torch.inf).amin(1, keepdim=True)
        unit = torch.where(inside, x, -torch.inf).amax(1, keepdim=True) - low
    elif scaling == "mu_three_sigma":
        low, unit = (mean - 3 * std).float(), (6 * std).float()
    elif scaling == "standardise":
        low, unit = near, std.float()
    else:  # minmax
        low = x.amin(1, keepdim=True)
        unit = x.amax(1, keepdim=True) - low
    spread = (std > 1e-7 * mean.abs()) & (unit > 0)
    out = (x - low) / torch.where(spread, unit, 1.0)
    return torch.where(spread, out, 0.0).reshape(shape)
