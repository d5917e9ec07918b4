"""Scalings of single stamps.

All scalings act on each stamp of each channel by itself. Pixels that are not finite, or beyond
±1e18, are left out of the statistics and take the value that the mean of the stamp's other
pixels is scaled to; a stamp without any other, and a constant one, become all zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import threshold

from rb.errors import UserError
from rb.stamps.batch import as_pixels
from rb.stamps.layout import SCALINGS

LARGEST = 1e18
"""Pixels beyond are no measurement; the square of what is not can be held in float32."""


def _moments(x: Tensor, finite: Tensor | None) -> tuple[Tensor, Tensor]:
    # Sums in double precision: a bright star's σ must not depend on the order of summation.
    if finite is None:
        n: Tensor | int = x.shape[1]
        kept = x
    else:
        n = finite.sum(1, keepdim=True).clamp(min=1)
        kept = torch.where(finite, x, 0.0)
    mean = kept.sum(1, keepdim=True, dtype=torch.float64) / n
    near = mean.float()
    deviation = x - near
    if finite is not None:
        deviation = torch.where(finite, deviation, 0.0)
    square = deviation.square_().sum(1, keepdim=True, dtype=torch.float64) / n
    return mean, (square - (mean - near) ** 2).clamp(min=0).sqrt()


def _float_at_or_beyond(limit: Tensor, towards: float) -> Tensor:
    """The float32 nearest to the double `limit` that lies at it or on the side of `towards`."""
    near = limit.float()
    inside = near.double() < limit if towards > 0 else near.double() > limit
    return torch.where(inside, torch.nextafter(near, torch.full_like(near, towards)), near)


def _outside_as_infinite(far: Tensor) -> Tensor:
    # 0 for pixels that lie inside by `far`. PyTorch takes three times as long to compare and mask.
    return threshold(far, 0.0, torch.inf).sub_(far)


def _three_sigma(
    x: Tensor, finite: Tensor | None, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    above = _float_at_or_beyond(mean - 3 * std, -torch.inf)
    below = _float_at_or_beyond(mean + 3 * std, torch.inf)
    over, under = x - above, below - x
    if finite is not None:
        # Filled pixels hold the mean, which lies above all of the sky next to a bright star.
        over, under = (torch.where(finite, far, 0.0) for far in (over, under))
    low = _outside_as_infinite(over).add_(x).amin(1, keepdim=True)
    high = torch.sub(x, _outside_as_infinite(under)).amax(1, keepdim=True)
    return low, high - low


def _mu_three_sigma(
    x: Tensor, finite: Tensor | None, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    return (mean - 3 * std).float(), (6 * std).float()


def _standardise(
    x: Tensor, finite: Tensor | None, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    return mean.float(), std.float()


def _minmax(x: Tensor, finite: Tensor | None, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    return low, high - low


# Each gives (zero, unit) of the linear map (x - zero) / unit.
_LINEAR: dict[str, Callable[[Tensor, Tensor | None, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "three_sigma": _three_sigma,
    "mu_three_sigma": _mu_three_sigma,
    "standardise": _standardise,
    "minmax": _minmax,
}


def scale(stamps: np.ndarray | Tensor, scaling: str) -> Tensor:
    """Scale each stamp by its own pixels.

    Parameters
    ----------
    stamps : array or tensor, (..., H, W)
        Raw pixel values, in any unit; all scalings but ``l2`` and ``raw`` ignore an affine change
        of it, and ``l2`` a factor.
        What a masked array masks is not finite.
    scaling : str
        ``three_sigma``
            the minimum and maximum of the pixels strictly inside mean ± 3σ map to 0 and 1,
            and nothing is clipped; what the authors' code does for search and template;
        ``mu_three_sigma``
            mean − 3σ and mean + 3σ map to 0 and 1 (paper, section 3.1, in its words);
        ``standardise``
            mean 0, σ 1; the paper's choice for the difference image;
        ``minmax``
            all pixels to 0–1;
        ``l2``
            divided by the root of the sum of squares, pixels that are not finite 0; what networks
            of ZTF take (braai: Duev et al. 2019, arXiv 1907.11259);
        ``raw``
            unchanged, apart from pixels that are not finite.

        σ is the population standard deviation.

    Returns
    -------
    Tensor
        float32, of the shape of `stamps`, finite everywhere.

    Raises
    ------
    UserError
        If `scaling` is not one of `SCALINGS`.
    """
    if scaling not in SCALINGS:
        raise UserError(f"scaling '{scaling}' is unknown; choose one of {', '.join(SCALINGS)}")
    if not isinstance(stamps, Tensor):
        stamps = torch.from_numpy(as_pixels(stamps))
    x = stamps.reshape(-1, stamps.shape[-2] * stamps.shape[-1]).float()
    finite = None
    # The extremes tell whether there is anything to mask, which there seldom is; NaN is neither
    # above nor below.
    limit = LARGEST if scaling != "raw" else torch.finfo(x.dtype).max
    low, high = torch.aminmax(x) if x.numel() else (x.sum(), x.sum())
    if not (low >= -limit and high <= limit):
        finite = x.abs() <= limit
    mean, std = _moments(x, finite)
    if finite is not None:
        x = torch.where(finite, x, mean.float())
    if scaling != "raw":
        if scaling == "l2":
            x = x if finite is None else torch.where(finite, x, 0.0)
            zero = torch.zeros_like(mean, dtype=x.dtype)
            unit = x.double().square().sum(1, keepdim=True).sqrt().float()
        else:
            zero, unit = _LINEAR[scaling](x, finite, mean, std)
        # Rounding leaves a constant stamp with a σ of some 1e-8 of its value.
        spread = (std > 1e-7 * mean.abs()) & (unit > 0)
        x = (x - zero).div_(torch.where(spread, unit, 1.0))
        if not spread.all():
            x = torch.where(spread, x, 0.0)
    return x.reshape(stamps.shape)
