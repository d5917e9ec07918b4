r"""Difference imaging after Alard & Lupton (1998, ApJ 503, 325) and Alard (2000, A&AS 144, 363).

The template is convolved with a kernel that makes it look like the search image and subtracted:
:math:`D = S - T \otimes K - B`. The kernel is a sum of Gaussians times polynomials whose
coefficients, and those of the background B, follow from linear least squares over regions round
bright, unsaturated sources. Optionally the coefficients are polynomials of the position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from rb.survey.settings import SubtractionSettings

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Basis:
    """Kernel functions, separable but for the one that is taken off to make their sums 0.

    Attributes
    ----------
    factors : ndarray of shape (f, size)
        One-dimensional functions u^p exp(-u^2/2 sigma^2), those of even p scaled to sum 1.
    pairs : ndarray of shape (k, 2)
        Which factors make kernel i, along rows and along columns.
    even : ndarray of bool, shape (k,)
        Kernels of sum 1 before kernel 0 is taken off; the others sum to 0 by symmetry.
    """

    factors: Array
    pairs: NDArray[np.int64]
    even: NDArray[np.bool_]

    def kernel(self, coefficients: Array) -> Array:
        """Sum of the basis with these coefficients (k,), shape (size, size)."""
        weights = coefficients.copy()
        # Every even kernel after the first stands for itself minus kernel 0 (Alard 2000).
        weights[0] -= coefficients[1:][self.even[1:]].sum()
        rows, columns = self.factors[self.pairs[:, 0]], self.factors[self.pairs[:, 1]]
        return np.einsum("k,ky,kx->yx", weights, rows, columns)


@dataclass(frozen=True)
class Match:
    """A fitted PSF match.

    Attributes
    ----------
    basis : Basis
        The kernel's functions.
    kernel_coefficients : ndarray of shape (k, p)
        Coefficients of each function (rows) and polynomial term of the position (columns).
    background_coefficients : ndarray
        Polynomial coefficients of the differential background.
    kernel_order, background_order : int
        Polynomial degrees.
    shape : tuple of int
        Image size, which defines the scaled coordinates.
    flux_ratio : float
        Sum of the kernel: search flux per template flux.
    regions : int
        Number of regions that remained in the fit.
    """

    basis: Basis
    kernel_coefficients: Array
    background_coefficients: Array
    kernel_order: int
    background_order: int
    shape: tuple[int, int]
    flux_ratio: float
    regions: int

    def kernel_at(self, x: float, y: float) -> Array:
        """The kernel at a position in px, shape (size, size)."""
        terms = _terms(np.array(x), np.array(y), self.shape, self.kernel_order)
        return self.basis.kernel(self.kernel_coefficients @ terms)

    def convolve(self, template: NDArray[np.float32]) -> NDArray[np.float32]:
        """The template as the search image would show it, without background."""
        height, width = self.shape
        y, x = np.arange(height)[:, None], np.arange(width)[None, :]
        total = np.zeros(self.shape, dtype=np.float32)
        for j, term in enumerate(_terms(x, y, self.shape, self.kernel_order)):
            kernel = self.basis.kernel(self.kernel_coefficients[:, j]).astype(np.float32)
            part = fftconvolve(template, kernel, mode="same")
            total += part if j == 0 else part * term.astype(np.float32)
        return total

    def background(self) -> NDArray[np.float32]:
        """The differential background over the frame."""
        height, width = self.shape
        y, x = np.arange(height)[:, None], np.arange(width)[None, :]
        terms = _terms(x, y, self.shape, self.background_order)
        total = sum(c * term for c, term in zip(self.background_coefficients, terms, strict=True))
        return np.broadcast_to(np.asarray(total, dtype=np.float32), self.shape)


def _terms(x: NDArray, y: NDArray, shape: tuple[int, int], order: int) -> Array:
    """Polynomial terms up to a degree in coordinates scaled to [-1, 1]; the first is 1."""
    u = 2.0 * x / (shape[1] - 1) - 1.0
    v = 2.0 * y / (shape[0] - 1) - 1.0
    terms = [u**i * v**j for d in range(order + 1) for i in range(d + 1) for j in (d - i,)]
    return np.stack([np.broadcast_to(t, np.broadcast(u, v).shape) for t in terms])


def gaussian_basis(size: int, sigmas: tuple[float, ...], degrees: tuple[int, ...]) -> Basis:
    """Make the Gaussian-polynomial kernel basis.

    Parameters
    ----------
    size : int
        Side of the kernel, px, odd.
    sigmas : tuple of float
        Widths of the Gaussians, px.
    degrees : tuple of int
        Highest p + q of the polynomials x^p y^q with each Gaussian.

    Returns
    -------
    Basis
        Sum over Gaussians of (d+1)(d+2)/2 functions.
    """
    u = np.arange(size) - size // 2
    factors: list[Array] = []
    pairs: list[tuple[int, int]] = []
    even: list[bool] = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        first = len(factors)
        for p in range(degree + 1):
            factor = (u / sigma) ** p * np.exp(-0.5 * (u / sigma) ** 2)
            factors.append(factor / (factor.sum() if p % 2 == 0 else np.abs(factor).sum()))
        for p in range(degree + 1):
            for q in range(degree + 1 - p):
                pairs.append((first + p, first + q))
                even.append(p % 2 == 0 and q % 2 == 0)
    return Basis(np.array(factors), np.array(pairs), np.array(even))


def choose_regions(
    usable: NDArray[np.bool_],
    x: Array,
    y: Array,
    flux: Array,
    settings: SubtractionSettings,
) -> NDArray[np.int64]:
    """Choose where to fit: round the brightest sources whose whole region is usable.

    Parameters
    ----------
    usable : ndarray of bool, shape (height, width)
        Pixels that are neither saturated nor masked in either image.
    x, y, flux : ndarray of shape (n,)
        Sources found in the template.
    settings : SubtractionSettings
        Number and size of the regions.

    Returns
    -------
    ndarray of shape (m, 2)
        Central pixels (row, column), m <= settings.regions; regions overlap by less than half.
    """
    half = settings.region_size // 2
    reach = half + settings.kernel_size // 2
    height, width = usable.shape
    chosen: list[tuple[int, int]] = []
    for i in np.argsort(-flux, kind="stable"):
        row, column = round(float(y[i])), round(float(x[i]))
        if not (reach <= row < height - reach and reach <= column < width - reach):
            continue
        if not usable[row - reach : row + reach + 1, column - reach : column + reach + 1].all():
            continue
        if any(max(abs(row - r), abs(column - c)) <= half for r, c in chosen):
            continue
        chosen.append((row, column))
        if len(chosen) == settings.regions:
            break
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def _filter_regions(patches: Array, basis: Basis) -> Array:
    """Convolve patches (r, m, m) with every kernel; valid part, shape (k, r, s, s)."""
    size = basis.factors.shape[1]
    side = patches.shape[1] - size + 1
    toeplitz = np.zeros((len(basis.factors), side, patches.shape[1]))
    for j in range(side):
        toeplitz[:, j, j : j + size] = basis.factors[:, ::-1]
    out = np.empty((len(basis.pairs), len(patches), side, side))
    for p in np.unique(basis.pairs[:, 0]):
        rows = np.matmul(toeplitz[p], patches)
        for k in np.flatnonzero(basis.pairs[:, 0] == p):
            np.matmul(rows, toeplitz[basis.pairs[k, 1]].T, out=out[k])
    zero_sum = basis.even.copy()
    zero_sum[0] = False
    out[zero_sum] -= out[0]
    return out


def match_psf(
    search: NDArray[np.float32],
    template: NDArray[np.float32],
    variance: NDArray[np.float32],
    regions: NDArray[np.int64],
    settings: SubtractionSettings,
) -> Match:
    """Fit the kernel and the differential background.

    Parameters
    ----------
    search, template : ndarray of shape (height, width)
        Aligned images; the template is the sharper one and free of background.
    variance : ndarray of shape (height, width)
        Variance of the difference to expect; weights the fit.
    regions : ndarray of shape (m, 2)
        Central pixels from `choose_regions`.
    settings : SubtractionSettings
        Basis, polynomial orders and clipping.

    Returns
    -------
    Match
        The fitted model.

    Raises
    ------
    ValueError
        There are too few regions to determine the kernel.
    """
    basis = gaussian_basis(settings.kernel_size, settings.kernel_sigmas_px, settings.kernel_degrees)
    order = settings.kernel_order
    n_terms = (order + 1) * (order + 2) // 2
    if len(regions) < 2 * n_terms:
        raise ValueError(f"{len(regions)} regions do not determine a kernel of order {order}")

    half, reach = settings.region_size // 2, settings.kernel_size // 2
    shape = (search.shape[0], search.shape[1])
    index = np.arange(-half, half + 1)
    wide = np.arange(-half - reach, half + reach + 1)
    rows, columns = regions[:, 0, None, None], regions[:, 1, None, None]
    cut = (rows + index[:, None], columns + index[None, :])
    patches = template[rows + wide[:, None], columns + wide[None, :]].astype(np.float64)

    filtered = _filter_regions(patches, basis)
    k = len(basis.pairs)
    m = len(regions)
    background = _terms(
        cut[1] + 0.0 * cut[0], cut[0] + 0.0 * cut[1], shape, settings.background_order
    )
    design = np.concatenate([filtered, background]).reshape(k + len(background), m, -1)
    design = design.transpose(1, 0, 2)
    root = 1.0 / np.sqrt(variance[cut].astype(np.float64).reshape(m, 1, -1))
    weighted = design * root
    data = search[cut].astype(np.float64).reshape(m, 1, -1) * root

    # The kernel's sum (function 0) stays constant over the frame; the others follow the position.
    place = _terms(regions[:, 1].astype(float), regions[:, 0].astype(float), shape, order)
    expand = np.zeros((m, k + len(background), 1 + (k - 1) * n_terms + len(background)))
    expand[:, 0, 0] = 1.0
    for i in range(1, k):
        expand[:, i, 1 + (i - 1) * n_terms : 1 + i * n_terms] = place.T
    for i in range(len(background)):
        expand[:, k + i, 1 + (k - 1) * n_terms + i] = 1.0
    small = np.matmul(weighted, weighted.transpose(0, 2, 1))
    right = np.matmul(weighted, data.transpose(0, 2, 1))
    normal = np.matmul(expand.transpose(0, 2, 1), np.matmul(small, expand))
    vector = np.matmul(expand.transpose(0, 2, 1), right)[:, :, 0]

    used = np.ones(m, dtype=bool)
    solution = np.zeros(expand.shape[2])
    for round_ in range(settings.clip_rounds + 1):
        solution = _solve(normal[used].sum(axis=0), vector[used].sum(axis=0))
        if round_ == settings.clip_rounds:
            break
        model = np.matmul((expand @ solution)[:, None, :], weighted)
        chi2 = np.mean((data - model) ** 2, axis=(1, 2))
        middle = np.median(chi2[used])
        spread = 1.4826 * np.median(np.abs(chi2[used] - middle))
        keep = chi2 <= middle + settings.clip_sigma * max(float(spread), 0.05)
        if keep.sum() < max(2 * n_terms, m // 2) or np.array_equal(keep, used):
            break
        used = keep

    coefficients = np.zeros((k, n_terms))
    coefficients[0, 0] = solution[0]
    coefficients[1:] = solution[1 : 1 + (k - 1) * n_terms].reshape(k - 1, n_terms)
    return Match(
        basis=basis,
        kernel_coefficients=coefficients,
        background_coefficients=solution[1 + (k - 1) * n_terms :],
        kernel_order=order,
        background_order=settings.background_order,
        shape=shape,
        flux_ratio=float(solution[0]),
        regions=int(used.sum()),
    )


def _solve(matrix: Array, vector: Array) -> Array:
    """Solve normal equations, scaled to unit diagonal and with a ridge against degeneracy."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix / np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += 1e-9
    return np.linalg.solve(scaled, vector / scale) / scale


def subtract(
    search: NDArray[np.float32],
    matched: NDArray[np.float32],
    match: Match,
) -> NDArray[np.float32]:
    """Difference image in the search image's flux scale, shape (height, width)."""
    return search - matched - match.background()


def difference_variance(
    search_variance: NDArray[np.float32], template_variance: NDArray[np.float32], match: Match
) -> NDArray[np.float32]:
    """Variance of the difference image, with the kernel of the frame's centre.

    The template's part is smoothed on pixels twice as large: it changes over a PSF, not a pixel.
    """
    kernel = match.kernel_at((match.shape[1] - 1) / 2, (match.shape[0] - 1) / 2)
    reach = len(kernel) // 2
    half = (reach + 1) // 2
    # What is an odd number of pixels off falls half into either of two coarse pixels.
    steps = np.arange(-reach, reach + 1) - 2 * np.arange(-half, half + 1)[:, None]
    share = np.maximum(0.0, 1.0 - np.abs(steps) / 2.0)
    weights = (share @ kernel**2 @ share.T).astype(np.float32)
    height, width = match.shape
    v = np.pad(template_variance, ((0, height % 2), (0, width % 2)), mode="edge")
    coarse = 0.25 * (v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2])
    smoothed = fftconvolve(coarse, weights, mode="same").repeat(2, axis=0).repeat(2, axis=1)
    return search_variance + np.maximum(smoothed[:height, :width], 0.0)
