"""A network with its scaling and calibration inside, as one graph: raw stamps in, `p_real` out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rb.models.checkpoint import NetworkScorer
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import CHANNELS, VARIANCES
from rb.stamps.scaling import LARGEST

_FLOAT_MAX = torch.finfo(torch.float32).max


class ScoringGraph(nn.Module):
    """What is exported: scaling, network, calibrated softmax.

    The same function as `InputSpec.tensors` and the network after it, in operations that every
    engine has.

    Parameters
    ----------
    scorer : NetworkScorer
        The network and what it is fed.
    """

    def __init__(self, scorer: NetworkScorer) -> None:
        super().__init__()
        self.network, self.probability = scorer.network, scorer.probability
        self.inputs = scorer.inputs

    def forward(
        self, stamps: Tensor, variance: Tensor | None = None, side: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """`p_real` (N,) and, if the network has one, its embedding (N, E).

        Parameters
        ----------
        stamps : Tensor of shape (N, 3, S, S)
            Raw pixels: difference, search, template.
        variance : Tensor of shape (N, 3, S, S), optional
            Their variances, for a network that is fed some.
        side : Tensor of shape (N, M), optional
            Side information in the order of `InputSpec.side`, for a network that is fed some.
        """
        fed = [prepared(stamps, variance, self.inputs)]
        if side is not None:
            fed.append(torch.where(torch.isfinite(side), side, 0.0))
        both = with_embedding(self.network)
        if both is None:
            return (self.probability(self.network(*fed)),)
        logits, hidden = both(*fed)
        return self.probability(logits), hidden


def with_embedding(network: nn.Module) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """What gives a network's logits and last hidden layer (N, E); None where it has no such way."""
    return getattr(network, "with_embedding", None)


def prepared(stamps: Tensor, variance: Tensor | None, inputs: InputSpec) -> Tensor:
    """Raw stamps (N, 3, S, S) to the network's input (N, C, H, W)."""
    planes = []
    for channel in inputs.channels:
        if channel in CHANNELS:
            plane = stamps[:, CHANNELS.index(channel)]
        else:
            assert variance is not None
            plane = variance[:, VARIANCES.index(channel)]
        planes.append(scaled(plane, inputs.scaling[channel]))
    if inputs.stacking == "depth":
        return torch.stack(planes, 1)
    return torch.cat(planes, -1)[:, None]


def scaled(stamps: Tensor, scaling: str) -> Tensor:
    """`rb.stamps.scaling.scale` of stamps (N, S, S) in operations that ONNX knows."""
    shape = stamps.shape
    x = stamps.flatten(1)
    finite = x.abs() <= (LARGEST if scaling != "raw" else _FLOAT_MAX)
    n = finite.float().sum(1, keepdim=True).clamp(min=1).double()
    mean = torch.where(finite, x, 0.0).double().sum(1, keepdim=True) / n
    near = mean.float()
    filled = torch.where(finite, x, near)
    if scaling == "raw":
        return filled.reshape(shape)
    deviation = filled - near
    square = (deviation * deviation).double().sum(1, keepdim=True) / n
    std = (square - (mean - near) ** 2).clamp(min=0).sqrt()
    if scaling == "three_sigma":
        above = _float_beyond(mean - 3 * std, -1)
        below = _float_beyond(mean + 3 * std, 1)
        low = torch.where(finite & (x > above), x, torch.inf).amin(1, keepdim=True)
        unit = torch.where(finite & (x < below), x, -torch.inf).amax(1, keepdim=True) - low
    elif scaling == "mu_three_sigma":
        low, unit = (mean - 3 * std).float(), (6 * std).float()
    elif scaling == "l2":
        filled = torch.where(finite, x, 0.0)
        low, unit = torch.zeros_like(near), filled.double().square().sum(1, keepdim=True).sqrt()
        unit = unit.float()
    elif scaling == "standardise":
        low, unit = near, std.float()
    else:  # minmax
        low = filled.amin(1, keepdim=True)
        unit = filled.amax(1, keepdim=True) - low
    spread = (std > 1e-7 * mean.abs()) & (unit > 0)
    # Divided by infinity, a stamp without spread becomes all zeros.
    low, unit = torch.where(spread, low, 0.0), torch.where(spread, unit, torch.inf)
    return ((filled - low) / unit).reshape(shape)


def _float_beyond(limit: Tensor, sign: int) -> Tensor:
    """The float32 next to the double `limit` that lies at it or on the side of `sign`.

    ONNX has no `nextafter`. Between 0.625 and 1.25 of the distance to the next float32 is added
    instead, in double precision, and rounded.
    """
    near = limit.float()
    exact = near.double()
    step = (exact.abs() * (1.25 * 2.0**-24)).clamp(min=1e-45)
    short = exact < limit if sign > 0 else exact > limit
    return torch.where(short, (exact + sign * step).float(), near)
