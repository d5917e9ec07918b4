"""Operations on stamps that torch lacks, or that exported graphs do not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def median(x: Tensor) -> Tensor:
    """Lower median of each row, (n,) of (n, m)."""
    if exporting():
        # ONNX knows no median.
        return x.topk((x.shape[1] + 1) // 2, largest=False).values[:, -1]
    watched = x.requires_grad or torch.jit.is_tracing() or torch.compiler.is_compiling()
    if x.device.type != "cpu" or watched:
        return x.median(1).values
    middle = (x.shape[1] - 1) // 2
    # NumPy's selection uses the vector units: a ninth of the time.
    return torch.from_numpy(np.partition(x.detach().numpy(), middle, 1)[:, middle])


def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine; torch.asinh is not vectorised on CPUs."""
    return torch.sign(x) * torch.log(x.abs() + torch.sqrt(x**2 + 1))


def doubled(x: Tensor) -> Tensor:
    """The same in double precision, on devices that have it."""
    return x if x.device.type == "mps" else x.double()


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel; zeros are taken to lie outside.

    In exported graphs the Fourier transforms are products with matrices, which every engine has.

    Parameters
    ----------
    images : Tensor (n, S, S)
        Or (n, S, S') where no graph is exported.
    kernels : Tensor (n, P, P)
        P odd; the kernel's centre is its middle pixel.

    Returns
    -------
    Tensor (n, S, S)
    """
    (height, size), width = images.shape[-2:], kernels.shape[-1]
    lengths = (_fast_length(height + width // 2), _fast_length(size + width // 2))
    if exporting():
        return _convolve_by_matrices(images, kernels, lengths[1])
    if len(images) == 0:  # which the library for transforms refuses
        return images
    spectrum = torch.fft.rfft2(images, lengths)
    spectrum = spectrum * torch.fft.rfft2(kernels, lengths)
    whole = torch.fft.irfft2(spectrum, lengths)
    half = width // 2
    return whole[:, half : half + height, half : half + size]


def whiten(images: Tensor, kernels: Tensor, weights: Tensor, floor: float = 0.02) -> Tensor:
    """Make the noise of images white that are sums of convolved ones.

    Each image is divided, in Fourier space, by the root of the power spectrum ``Σ w |K|²``; where
    that falls below the square of `floor`, nothing of a source is left to be sharpened.

    Parameters
    ----------
    images : Tensor (n, m, S, S)
    kernels : Tensor (n, k, P, P)
        What white noise was convolved with; P odd.
    weights : Tensor (n, k)
        Variance of each white noise.
    floor : float
        Least response, of that to a constant.

    Returns
    -------
    Tensor (n, m, S, S)
        With noise of unit variance.
    """
    if not exporting() and len(images) == 0:
        return images
    size, width = images.shape[-1], kernels.shape[-1]
    length = _fast_length(size + width // 2)
    if exporting():
        re, im = _transform(kernels.flatten(0, 1), width // 2, length)
        power = (re**2 + im**2).unflatten(0, kernels.shape[:2])
    else:
        power = torch.fft.rfft2(kernels, (length, length)).abs().square()
    power = ((power + floor**2) * weights[:, :, None, None]).sum(1)
    response = power.clamp(min=1e-30).rsqrt()[:, None]
    if exporting():
        shape = images.shape[:2]
        parts = (x.unflatten(0, shape) for x in _transform(images.flatten(0, 1), 0, length))
        re, im = ((x * response).flatten(0, 1) for x in parts)
        return _transform_back(re, im, size, length).unflatten(0, shape)
    spectrum = torch.fft.rfft2(images, (length, length)) * response
    return torch.fft.irfft2(spectrum, (length, length))[..., :size, :size]


def exporting() -> bool:
    """Whether a graph is being exported, which is to hold nothing but common operations."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def _fast_length(least: int) -> int:
    from scipy.fft import next_fast_len

    while least % 2 or next_fast_len(least) != least:
        least += 1
    return least


def _convolve_by_matrices(images: Tensor, kernels: Tensor, length: int) -> Tensor:
    a_re, a_im = _transform(images, 0, length)
    b_re, b_im = _transform(kernels, kernels.shape[-1] // 2, length)
    re, im = a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re
    return _transform_back(re, im, images.shape[-1], length)


def _transform(x: Tensor, offset: int, length: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the spectrum, pixel `offset` of either axis at 0."""
    rows, columns = (
        torch.from_numpy(m).to(x) for m in _forward_matrices(x.shape[-1], offset, length)
    )
    half = x @ columns
    k = half.shape[-1] // 2
    both = rows @ torch.cat([half[..., :k], half[..., k:]], 1)
    return both[:, :length], both[:, length:]


def _transform_back(re: Tensor, im: Tensor, size: int, length: int) -> Tensor:
    rows, columns = (torch.from_numpy(m).to(re) for m in _backward_matrices(size, length))
    both = rows @ torch.cat([re, im], 1)
    return torch.cat([both[:, :size], both[:, size:]], 2) @ columns


@lru_cache(maxsize=16)
def _forward_matrices(size: int, offset: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    where = np.arange(size) - offset
    angle = 2 * np.pi * np.outer(where, np.arange(length // 2 + 1)) / length
    columns = np.concatenate([np.cos(angle), -np.sin(angle)], 1)
    angle = 2 * np.pi * np.outer(np.arange(length), where) / length
    rows = np.block([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return rows, columns


@lru_cache(maxsize=16)
def _backward_matrices(size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi * np.outer(np.arange(size), np.arange(length)) / length
    rows = np.block([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / length
    half = np.arange(length // 2 + 1)
    # Every frequency but the first and the last stands for its mirror image too.
    weight = np.where((half == 0) | (half == length // 2), 1.0, 2.0)[:, None] / length
    angle = 2 * np.pi * np.outer(half, np.arange(size)) / length
    columns = np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)], 0)
    return rows, columns


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Neither TF32 nor autocast: a star's wings are a thousandth of its core."""
    if exporting():  # a graph has its own, and makes a function of what is in such a context
        yield
        return
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
