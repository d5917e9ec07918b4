"""PSFs of a pair of stamps, from what is known of its exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rb.stamps.layout import IMAGES

_TYPICAL_FWHM = 3.5
# What both images are smoothed with where a PSF is unknown: little, and the same for both.
_FALLBACK_FWHM = 2.5


def read_side(side: Tensor | None, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor | None]:
    """Take a side vector apart.

    Parameters
    ----------
    side : Tensor (n, m), optional
        Values in the order of `names`.
    names : sequence of str
        Columns of side information; ``psf`` stands for both PSF images, flattened.

    Returns
    -------
    values : dict of Tensor (n,)
        The scalars.
    psf : Tensor (n, 2, P, P) or None
        PSF images of search and template.
    """
    values: dict[str, Tensor] = {}
    psf = None
    if side is None:
        return values, psf
    pixels = side.shape[1] - sum(name != "psf" for name in names)
    start = 0
    for name in names:
        if name == "psf":
            size = math.isqrt(pixels // 2)
            psf = side[:, start : start + pixels].reshape(-1, 2, size, size)
            start += pixels
        else:
            values[name] = side[:, start]
            start += 1
    return values, psf


def pair_psfs(
    values: dict[str, Tensor], psf: Tensor | None, like: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """PSF images of each pair: as given, else Moffats of the widths that are given.

    Where either PSF of a pair is unknown, both are the same narrow Moffat: convolving with
    them smooths both images alike and matches nothing.

    Parameters
    ----------
    values : dict of Tensor (n,)
        Scalars; ``psf_fwhm_IMAGE`` (px) and ``psf_e1_IMAGE``, ``psf_e2_IMAGE`` are used.
    psf : Tensor (n, 2, P, P), optional
        PSF images.
    like : Tensor (n, ...)
        Says how many pairs there are, and on which device.
    size : int
        Side in px of PSFs that have to be made, odd.

    Returns
    -------
    psfs : Tensor (n, 2, P, P)
        Each sums to 1.
    known : Tensor (n,)
        1 where the PSFs were given, else 0.
    """
    n = like.shape[0]
    if psf is not None:
        size = psf.shape[-1]
    fallback = moffat(like.new_full((1,), _FALLBACK_FWHM), size=size)[:, None]
    if psf is not None:
        total = psf.sum((-2, -1), keepdim=True)
        usable = torch.isfinite(total) & (total > 0.1)
        given = torch.nan_to_num(psf) / torch.where(usable, total, 1.0)
        known = usable.flatten(1).all(1)
    elif "psf_fwhm_srch" in values and "psf_fwhm_tmpl" in values:
        fwhm = torch.stack([values[f"psf_fwhm_{image}"] for image in IMAGES], 1)
        usable = torch.isfinite(fwhm) & (fwhm > 0.5) & (fwhm < size)
        fwhm = torch.where(usable, fwhm, _FALLBACK_FWHM)
        none = torch.zeros_like(fwhm[:, 0])
        e1, e2 = (
            torch.stack([values.get(f"psf_{e}_{image}", none) for image in IMAGES], 1)
            for e in ("e1", "e2")
        )
        given = moffat(
            fwhm.flatten(),
            *(torch.nan_to_num(e).clamp(-0.6, 0.6).flatten() for e in (e1, e2)),
            size=size,
        ).reshape(-1, 2, size, size)
        known = usable.all(1)
    else:
        return fallback.expand(n, 2, size, size), like.new_zeros(n)
    return torch.where(known[:, None, None, None], given, fallback), known.to(like.dtype)


def moffat(
    fwhm: Tensor,
    e1: Tensor | None = None,
    e2: Tensor | None = None,
    *,
    size: int,
    beta: float = 3.0,
) -> Tensor:
    """Moffat profiles (Moffat 1969, A&A 3, 455), normalised to sum 1.

    Parameters
    ----------
    fwhm : Tensor (n,)
        Full width at half maximum in px.
    e1, e2 : Tensor (n,), optional
        Distortion (a² − b²)/(a² + b²) along x and along the diagonal.
    size : int
        Side of the images in px, odd.
    beta : float
        Exponent.

    Returns
    -------
    Tensor (n, size, size)
    """
    u = torch.arange(size, device=fwhm.device, dtype=fwhm.dtype) - size // 2
    x, y = u[None, None, :], u[None, :, None]
    if e1 is None or e2 is None:
        square = x**2 + y**2
    else:
        e1, e2 = e1[:, None, None], e2[:, None, None]
        round_ = (1 - e1**2 - e2**2).clamp(min=0.05).sqrt()
        square = ((1 - e1) * x**2 + (1 + e1) * y**2 - 2 * e2 * x * y) / round_
    alpha = fwhm[:, None, None] / (2 * math.sqrt(2 ** (1 / beta) - 1))
    profile = (1 + square / alpha**2) ** -beta
    return profile / profile.sum((-2, -1), keepdim=True)


def log_width(psfs: Tensor) -> Tensor:
    """Logarithm of each PSF's width over the typical one, from its noise-equivalent area 1/ΣP².

    Parameters
    ----------
    psfs : Tensor (n, 2, P, P)

    Returns
    -------
    Tensor (n, 2)
    """
    area = _MOFFAT_AREA * _TYPICAL_FWHM**2
    return -0.5 * torch.log(psfs.square().sum((-2, -1)).clamp(min=1e-6) * area)


# Noise-equivalent area of a Moffat with β = 3 in units of its FWHM squared.
_MOFFAT_AREA = math.pi * 5 / 16 / (2 ** (1 / 3) - 1)
