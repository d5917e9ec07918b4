"""Scalings of single stamps, and how channels are put together for a network.

All scalings act on each stamp of each channel by itself. Pixels that are not finite are
left out of the statistics and take the value that the mean of the stamp's finite pixels
is scaled to; a stamp without finite pixels, and a constant one, become all zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rb.errors import UserError
from rb.stamps.stampset import CHANNELS, STAMP_SIZE

STACKINGS = ("horizontal", "depth")


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


def _three_sigma(
    x: Tensor, finite: Tensor | None, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    above = _float_at_or_beyond(mean - 3 * std, -torch.inf)
    below = _float_at_or_beyond(mean + 3 * std, torch.inf)
    inside = (x > above) & (x < below)
    if finite is not None:
        # Filled pixels hold the mean, which lies above all of the sky next to a bright star.
        inside &= finite
    low = torch.where(inside, x, torch.inf).amin(1, keepdim=True)
    high = torch.where(inside, x, -torch.inf).amax(1, keepdim=True)
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
SCALINGS = (*_LINEAR, "raw")


def scale(stamps: np.ndarray | Tensor, scaling: str) -> Tensor:
    """Scale each stamp by its own pixels.

    Parameters
    ----------
    stamps : array or tensor, (..., H, W)
        Raw pixel values, in any unit; all scalings but ``raw`` ignore an affine change of it.
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
    stamps = torch.as_tensor(stamps)
    x = stamps.reshape(-1, stamps.shape[-2] * stamps.shape[-1]).float()
    finite = None
    # One sum tells whether there is anything to mask, which there seldom is. A sum of finite
    # pixels can overflow: then masking is merely superfluous.
    if not torch.isfinite(x.sum()):
        finite = torch.isfinite(x)
    mean, std = _moments(x, finite)
    if finite is not None:
        x = torch.where(finite, x, mean.float())
    if scaling != "raw":
        zero, unit = _LINEAR[scaling](x, finite, mean, std)
        # Rounding leaves a constant stamp with a σ of some 1e-8 of its value.
        spread = (std > 1e-7 * mean.abs()) & (unit > 0)
        x = (x - zero).div_(torch.where(spread, unit, 1.0))
        if not spread.all():
            x = torch.where(spread, x, 0.0)
    return x.reshape(stamps.shape)


@dataclass(frozen=True)
class InputSpec:
    """What a network is fed: channels, their scaling, and how they are put together.

    A saved model carries its `InputSpec`, so that it cannot be fed wrongly.

    Parameters
    ----------
    channels : sequence of str
        Of ``diff``, ``srch``, ``tmpl``, in the order in which they are stacked.
    stacking : str
        ``horizontal``: side by side, 51 x 51·C in one channel (paper, Fig. 3);
        ``depth``: C channels of 51 x 51 (paper, appendix A.2).
    scaling : mapping
        Scaling of each channel, see `scale`.
    """

    channels: tuple[str, ...] = CHANNELS
    stacking: str = "horizontal"
    scaling: Mapping[str, str] = field(
        default_factory=lambda: {
            "diff": "standardise",
            "srch": "three_sigma",
            "tmpl": "three_sigma",
        }
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        unknown = [c for c in self.channels if c not in CHANNELS]
        if unknown or not self.channels or len(set(self.channels)) < len(self.channels):
            raise UserError(
                f"model.inputs.channels is {list(self.channels)}; give some of {list(CHANNELS)}, "
                "each once"
            )
        if self.stacking not in STACKINGS:
            raise UserError(
                f"model.inputs.stacking is '{self.stacking}'; choose one of {', '.join(STACKINGS)}"
            )
        object.__setattr__(
            self, "scaling", {c: self.scaling.get(c, "three_sigma") for c in self.channels}
        )
        for channel, scaling in self.scaling.items():
            if scaling not in SCALINGS:
                raise UserError(
                    f"model.inputs.scaling.{channel} is '{scaling}'; choose one of "
                    f"{', '.join(SCALINGS)}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the tensor that the network sees."""
        if self.stacking == "depth":
            return len(self.channels), STAMP_SIZE, STAMP_SIZE
        return 1, STAMP_SIZE, STAMP_SIZE * len(self.channels)

    @property
    def kind(self) -> str:
        """``dia`` if the difference image is among the channels, else ``nodia``."""
        return "dia" if "diff" in self.channels else "nodia"

    def check(self, channels: Sequence[str], where: str) -> None:
        """Raise UserError if a stamp set with `channels` cannot feed this network."""
        missing = [c for c in self.channels if c not in channels]
        if not channels:
            raise UserError(
                f"{where}: the network needs stamps ({', '.join(missing)}), but these are "
                "features without stamps; choose model=autoscan or other data"
            )
        if missing:
            raise UserError(
                f"{where}: the network needs {', '.join(missing)}, but the stamp set has only "
                f"{', '.join(channels)}; choose a model without it (model=nodia) or other data"
            )

    def prepare(self, stamps: np.ndarray, chunk: int = 64) -> Tensor:
        """Raw stamps (N, 3, 51, 51) to the network's input, float32 `(N, *shape)`."""
        out = torch.empty((len(stamps), *self.shape))
        for start in range(0, len(stamps), chunk):
            rows = slice(start, start + chunk)
            scaled = [
                scale(np.ascontiguousarray(stamps[rows, CHANNELS.index(c)]), self.scaling[c])
                for c in self.channels
            ]
            if self.stacking == "depth":
                out[rows] = torch.stack(scaled, 1)
            else:
                out[rows, 0] = torch.cat(scaled, -1)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Primitives only, for checkpoints and configuration."""
        return asdict(self) | {"channels": list(self.channels), "scaling": dict(self.scaling)}
