"""What a network sees: channels in units of their noise, matched pairs, and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.models.modern.matching import Matching, Pair, common_psf
from rb.models.modern.operations import asinh, doubled, full_precision, median
from rb.models.modern.psf import log_width, pair_psfs, read_side
from rb.stamps.layout import IMAGES

_CENTRE_PX = 5.0
_BRIGHTEST = 1e7  # in units of the noise


class InputPlanes(nn.Module):
    """Raw channels and side information to planes and scalars, without anything trained.

    Each channel becomes asinh((pixel − median) / noise); variance channels become the logarithm
    of variance over noise². The noise is the sky's if the side information has it, else the
    scaled median absolute deviation of the stamp. Every plane turns and mirrors with the stamp.

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of the raw stamps, stacked in depth.
    channels : sequence of str
        Names of the channels.
    side : sequence of str
        Names of the side information, in the order of the side vector.
    matching : sequence of str
        Planes of `Matching` to add.
    conditions : bool
        Whether the widths of the two PSFs are among the scalars.
    psf_size : int
        Side of PSFs that are made of a FWHM, px, odd.
    **match
        Further settings of `Matching`.

    Attributes
    ----------
    names : tuple of str
        What the planes are.
    n_scalars : int
        Number of scalars.

    Raises
    ------
    UserError
        If the inputs do not suit.
    """

    _centre: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[str],
        side: Sequence[str] = (),
        matching: Sequence[str] = (),
        conditions: bool = False,
        psf_size: int = 21,
        **match: Any,
    ) -> None:
        super().__init__()
        count, height, width = input_shape
        if count != len(channels) or height != width:
            raise UserError(
                f"model.inputs.stacking gives stamps of {height}x{width} px in {count} channels; "
                "this network takes them stacked in depth"
            )
        if not set(IMAGES) <= set(channels):
            raise UserError(
                f"model.inputs.channels is {list(channels)}; this network compares srch and tmpl"
            )
        self.channels = tuple(channels)
        self.side = tuple(side)
        self.psf_size = psf_size
        self.conditions = conditions
        self.matching = Matching(height, matching, **match) if matching else None
        self.names = (*self.channels, *matching, "centre")
        self._images = [c for c in self.channels if not c.endswith("_var")]
        self.n_scalars = len(self._images) - 1 + (3 if conditions else 0)
        u = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
        centre = torch.exp(-(u[:, None] ** 2 + u**2) / (2 * _CENTRE_PX**2))
        self.register_buffer("_centre", centre, persistent=False)

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Planes (n, C', S, S) and scalars (n, m) of raw stamps (n, C, S, S)."""
        with full_precision(x.device.type):
            return self._planes(x.float(), None if side is None else side.float())

    def pair(self, x: Tensor, side: Tensor | None = None) -> Pair:
        """Search and template at a common PSF."""
        with full_precision(x.device.type):
            values, psf = read_side(side, self.side)
            sky, noise = self._levels(x, values)
            psfs, known = pair_psfs(values, psf, x, self.psf_size)
            return self._pair(x, sky, noise, values, psfs, known)

    def kernel(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Pictures (n, 25, 25) of the kernels that `Matching` fits; see `Matching.kernel`."""
        matching = self.matching or Matching(x.shape[-1]).to(x.device)
        return matching.kernel(self.pair(x, side))

    def _planes(self, x: Tensor, side: Tensor | None) -> tuple[Tensor, Tensor]:
        values, psf = read_side(side, self.side)
        sky, noise = self._levels(x, values)
        planes = []
        for i, channel in enumerate(self.channels):
            unit = noise[channel.removesuffix("_var")][:, None, None]
            if channel.endswith("_var"):
                planes.append(torch.log((x[:, i] / unit**2).clamp(0.01, 1e8)))
            else:
                planes.append(asinh(_above(x[:, i], sky[channel], noise[channel]) / unit))
        scalars = [
            torch.log(noise[c] / noise["srch"]).clamp(-5, 5) for c in self._images if c != "srch"
        ]
        if self.matching or self.conditions:
            psfs, known = pair_psfs(values, psf, x, self.psf_size)
            if self.matching:
                pair = self._pair(x, sky, noise, values, psfs, known)
                variance = None
                if "srch_var" in self.channels:
                    at = self.channels.index("srch_var")
                    variance = x[:, at] / noise["srch"][:, None, None] ** 2
                planes += [asinh(p) for p in self.matching(pair, variance)]
            if self.conditions:
                widths = log_width(psfs) * known[:, None]
                scalars += [*widths.unbind(1), known]
        planes.append(self._centre.expand(x.shape[0], -1, -1))
        return torch.stack(planes, 1), torch.stack(scalars, 1)

    def _levels(
        self, x: Tensor, values: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Sky and noise of each image, (n,) each."""
        sky, noise = {}, {}
        for channel in self._images:
            # A chequerboard's half of the pixels, which is enough.
            pixels = x[:, self.channels.index(channel)].flatten(1)[:, ::2]
            middle = median(pixels)
            spread = 1.4826 * median((pixels - middle[:, None]).abs())
            given = values.get(f"sky_noise_{channel}")
            if given is not None:
                spread = torch.where(torch.isfinite(given) & (given > 0), given, spread)
            sky[channel], noise[channel] = middle, torch.where(spread > 0, spread, 1.0)
        # A variance without its image is measured in units of the search image's sky.
        for channel in self.channels:
            noise.setdefault(channel.removesuffix("_var"), noise["srch"])
        return sky, noise

    def _pair(
        self,
        x: Tensor,
        sky: dict[str, Tensor],
        noise: dict[str, Tensor],
        values: dict[str, Tensor],
        psfs: Tensor,
        known: Tensor,
    ) -> Pair:
        search, template = (
            doubled(_above(x[:, self.channels.index(c)], sky[c], noise[c])) for c in IMAGES
        )
        scale = torch.ones_like(sky["srch"])
        scaled = torch.zeros_like(scale)
        zero_points = [values.get(f"zero_point_{image}") for image in IMAGES]
        if zero_points[0] is not None and zero_points[1] is not None:
            # Bring the template to the search image's zero point.
            step = zero_points[0] - zero_points[1]
            there = torch.isfinite(step) & (zero_points[0] != 0) & (zero_points[1] != 0)
            scale = 10 ** (0.4 * torch.where(there, step, 0.0).clamp(-10, 10))
            scaled = there.to(x.dtype)
        template = template * scale[:, None, None]
        sigmas = noise["srch"], noise["tmpl"] * scale
        return common_psf(search, template, sigmas, psfs, known, scaled)


def _above(image: Tensor, sky: Tensor, noise: Tensor) -> Tensor:
    """Flux above the sky, no brighter than any star: beyond that, squares have no numbers."""
    most = (_BRIGHTEST * noise)[:, None, None]
    return torch.minimum(torch.maximum(image - sky[:, None, None], -most), most)
