"""PSFs of a pair of stamps, and their convolution with stamps that each have their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

IMAGES = ("srch", "tmpl")
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


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel; zeros are taken to lie outside.

    In exported graphs the Fourier transforms are products with matrices, which every engine has.

    Parameters
    ----------
    images : Tensor (n, S, S)
    kernels : Tensor (n, P, P)
        P odd; the kernel's centre is its middle pixel.

    Returns
    -------
    Tensor (n, S, S)
    """
    size, width = images.shape[-1], kernels.shape[-1]
    length = _fast_length(size + width // 2)
    if exporting():
        return _convolve_by_matrices(images, kernels, length)
    spectrum = torch.fft.rfft2(images, (length, length))
    spectrum = spectrum * torch.fft.rfft2(kernels, (length, length))
    whole = torch.fft.irfft2(spectrum, (length, length))
    inside = slice(width // 2, width // 2 + size)
    return whole[:, inside, inside]


def exporting() -> bool:
    """Whether a graph is being exported, which is to hold nothing but common operations."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def _fast_length(least: int) -> int:
    from scipy.fft import next_fast_len

    while least % 2 or next_fast_len(least) != least:
        least += 1
    return least


def _convolve_by_matrices(images: Tensor, kernels: Tensor, length: int) -> Tensor:
    size, width = images.shape[-1], kernels.shape[-1]

    def constant(matrix: np.ndarray) -> Tensor:
        return torch.from_numpy(matrix).to(images)

    def transform(x: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        rows, columns = _forward_matrices(x.shape[-1], offset, length)
        half = x @ constant(columns)
        k = half.shape[-1] // 2
        stacked = torch.cat([half[..., :k], half[..., k:]], 1)
        both = constant(rows) @ stacked
        return both[:, :length], both[:, length:]

    a_re, a_im = transform(images, 0)
    b_re, b_im = transform(kernels, width // 2)
    rows, columns = _backward_matrices(size, length)
    product = torch.cat([a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re], 1)
    both = constant(rows) @ product
    return torch.cat([both[:, :size], both[:, size:]], 2) @ constant(columns)


@lru_cache(maxsize=16)
def _forward_matrices(size: int, offset: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    where = np.arange(size) - offset
    angle = 2 * np.pi * np.outer(where, np.arange(length // 2 + 1)) / length
    columns = np.concatenate([np.cos(angle), -np.sin(angle)], 1)
    angle = 2 * np.pi * np.outer(np.arange(length), where) / length
    rows = np.block([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return rows.astype(np.float32), columns.astype(np.float32)


@lru_cache(maxsize=16)
def _backward_matrices(size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi * np.outer(np.arange(size), np.arange(length)) / length
    rows = np.block([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / length
    half = np.arange(length // 2 + 1)
    # Every frequency but the first and the last stands for its mirror image too.
    weight = np.where((half == 0) | (half == length // 2), 1.0, 2.0)[:, None] / length
    angle = 2 * np.pi * np.outer(half, np.arange(size)) / length
    columns = np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)], 0)
    return rows.astype(np.float32), columns.astype(np.float32)


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Neither TF32 nor autocast: a star's wings are a thousandth of its core."""
    if device != "cuda":
        with torch.autocast(device, enabled=False):
            yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
