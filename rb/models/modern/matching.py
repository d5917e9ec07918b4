"""Compare search and template without a difference image: match the pair inside the network.

No kernel is fitted on a frame and no image is kept: each pair of stamps is brought to a common
PSF by its two PSFs (the cross-convolution that proper image subtraction starts from; Zackay, Ofek
& Gal-Yam 2016, ApJ 830, 27) and by a small least-squares fit to its own pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rb.errors import UserError
from rb.models.modern.operations import convolve, doubled, median, whiten

_FITS = ("fit", "fit_all")
PLANES = ("cross", *_FITS, "white_cross", "white_fit", "white_fit_all")

# The kernel's parts and the widths of their priors where the PSFs are known and where not; the
# plane's are in σ of the sky. Derivatives are per px.
_LEVELS = 4
_DERIVATIVES = (0, 2)
_PRIORS = [
    (1.0, 0.03, 0.3),  # scale
    *[(0.0, 0.1, 1.5)] * (_LEVELS - 1),  # width, at three scales
    *[(0.0, 0.15, 0.6), (0.0, 0.15, 0.6), (0.0, 0.2, 1.0), (0.0, 0.2, 1.0)] * len(_DERIVATIVES),
    *[(0.0, 30.0, 30.0)] * 3,  # level and slopes of the sky
]
_N_KERNEL = len(_PRIORS) - 3
# At a common PSF, every second pixel in each direction tells nearly all that the image does.
_STEP = 2


class Pair(NamedTuple):
    """A pair at a common PSF, in units of the noise of its difference.

    Attributes
    ----------
    search, template : Tensor (n, S, S)
        Search ⊗ PSF of the template, template ⊗ PSF of the search image.
    known : Tensor (n,)
        1 where the PSFs were known, else 0.
    scaled : Tensor (n,)
        1 where the flux scales were known, else 0.
    density : Tensor (n,)
        Independent values per pixel: smoothing correlates the noise.
    psfs : Tensor (n, 2, P, P)
        What noise of search and template was convolved with.
    weights : Tensor (n, 2)
        Variances of their noise before that, in these units.
    """

    search: Tensor
    template: Tensor
    known: Tensor
    scaled: Tensor
    density: Tensor
    psfs: Tensor
    weights: Tensor


class Matching(nn.Module):
    """Planes that show what differs between search and template.

    ``cross``
        (search ⊗ PSF_t − template ⊗ PSF_s) / noise: one PSF on both sides, whatever the two are.
    ``fit``
        what a small kernel and a plane leave of it: search ⊗ PSF_t ≈ Σ a_k K_k ⊗ (template ⊗
        PSF_s) + plane. The a_k minimise the noise-weighted squares with a Gaussian prior round
        "no kernel", tight where PSFs and zero points are known, wide where the stamp has to tell;
        pixels that stay outliers lose their weight (Cauchy, iteratively reweighted). The centre,
        where the candidate is, is left out of the fit.
    ``fit_all``
        the same with the centre, which takes out the registration error of a lone star.
    ``white_cross``, ``white_fit``, ``white_fit_all``
        each of these with white noise, as sharp as the images allow: of ``cross`` it is the proper
        difference (Zackay et al. 2016, eq. 13).

    The K_k are differences of images smoothed more and more (à trous, binomial filter) and first
    and second derivatives at two of these scales: flux scale, width, shift, shape.

    Parameters
    ----------
    size : int
        Side of the stamps, px.
    planes : sequence of str
        Which planes to make, of `PLANES`.
    mask_radius : float
        Radius of the centre that ``fit`` leaves out, px.
    model_error : float
        By which fraction of a pixel's flux a matched template may be off.
    iterations : int
        Solutions, each with weights from the one before.
    outlier : float
        Residual in σ that halves a pixel's weight.
    margin : int
        Rim that the fit leaves out, because flux from outside the stamp is missing there, px.

    Raises
    ------
    UserError
        If a plane is not known.
    """

    _plane: Tensor
    _priors: Tensor

    def __init__(
        self,
        size: int,
        planes: Sequence[str] = ("cross", "fit"),
        mask_radius: float = 6.0,
        model_error: float = 0.02,
        iterations: int = 2,
        outlier: float = 3.0,
        margin: int = 4,
    ) -> None:
        super().__init__()
        unknown = [plane for plane in planes if plane not in PLANES]
        if unknown:
            raise UserError(
                f"model.network.matching is {list(planes)}; give some of {', '.join(PLANES)}"
            )
        self.planes = tuple(planes)
        self._made = list(dict.fromkeys(plane.removeprefix("white_") for plane in planes))
        self.model_error = model_error
        self.iterations = iterations
        self.outlier = outlier
        u = np.arange(size) - (size - 1) / 2
        inside = np.abs(u) < size / 2 - margin
        inside = (inside[:, None] & inside)[::_STEP, ::_STEP]
        centre = (u[:, None] ** 2 + u**2 <= mask_radius**2)[::_STEP, ::_STEP]
        y, x = np.broadcast_arrays(u[:, None] / size, u / size)
        # Not weights: functions of the size, so that a network fits stamps of other sizes.
        for name, values in {
            "_fit_all": inside.ravel(),
            "_fit": (inside & ~centre).ravel(),
            "_plane": np.stack([np.ones_like(x), x, y]),
            "_priors": np.array(_PRIORS).T,
        }.items():
            buffer = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, pair: Pair, variance: Tensor | None = None) -> list[Tensor]:
        """The planes, each (n, S, S), in units of the sky's noise.

        Parameters
        ----------
        pair : Pair
            From `common_psf`.
        variance : Tensor (n, S, S), optional
            Variance of each pixel in units of the sky's.
        """
        made = {}
        if "cross" in self._made:
            # Each image's sky was taken off, but the broader PSF lifts the median more.
            difference = pair.search - pair.template
            sky = median(difference.flatten(1)[:, ::2])
            made["cross"] = difference - sky[:, None, None]
        fits = [plane for plane in self._made if plane in _FITS]
        if fits:
            left = self._solve(pair, self._basis(pair.template), fits, variance)[1]
            made |= dict(zip(fits, left.unbind(1), strict=True))
        white = [plane for plane in self.planes if plane.startswith("white_")]
        if white:
            blurred = torch.stack([made[plane.removeprefix("white_")] for plane in white], 1)
            sharp = whiten(doubled(blurred), doubled(pair.psfs), pair.weights).to(blurred.dtype)
            made |= dict(zip(white, sharp.unbind(1), strict=True))
        return [made[plane] for plane in self.planes]

    def kernel(self, pair: Pair, plane: str = "fit", size: int = 25) -> Tensor:
        """Pictures of the fitted kernels, (n, size, size): what is to be looked at.

        It acts on the template after its convolution with the search image's PSF, so with two
        true PSFs and a perfect registration it is a single pixel of height 1.
        """
        coefficients = self._solve(pair, self._basis(pair.template), [plane], None)[0][:, 0]
        point = pair.template.new_zeros(1, size, size)
        point[:, size // 2, size // 2] = 1
        parts = _kernel_parts(point).flatten(2)
        return (coefficients[:, :_N_KERNEL, None] * parts).sum(1).reshape(-1, size, size)

    def _basis(self, template: Tensor) -> Tensor:
        return torch.cat(
            [_kernel_parts(template), self._plane.expand(template.shape[0], -1, -1, -1)], 1
        )

    def _solve(
        self, pair: Pair, basis: Tensor, fits: Sequence[str], variance: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Coefficients (n, m, k) and residuals (n, m, S, S) of m fits at once."""
        start, tight, wide = self._priors
        known = pair.known[:, None]
        sure = torch.cat([pair.scaled[:, None], known.expand(-1, start.shape[0] - 1)], 1)
        precision = torch.diag_embed((tight * sure + wide * (1 - sure)) ** -2)[:, None]
        # The fit is for what the start leaves, so that the prior is round zero.
        target = (pair.search - pair.template)[:, None]
        noise = 1.0 if variance is None else variance.clamp(min=1)
        noise = noise + (self.model_error * pair.template) ** 2
        few, goal, noise = (
            doubled(image[..., ::_STEP, ::_STEP].flatten(-2))
            for image in (basis, target, noise[:, None])
        )
        mask = torch.stack([getattr(self, f"_{plane}") for plane in fits])
        weight = mask * (_STEP**2 * pair.density).clamp(max=1)[:, None, None] / noise
        left = goal * known[:, None]  # with unknown PSFs, the start says nothing about outliers
        both = torch.cat([few, goal], 1).transpose(1, 2)
        for _ in range(self.iterations):
            weights = weight / (1 + left**2 / noise / self.outlier**2)
            # One fit after the other: what all of them need at once is too large for the caches.
            products = torch.stack([(few * w[:, None]) @ both for w in weights.unbind(1)], 1)
            matrix, right = products[..., :-1] + precision, products[..., -1:]
            coefficients = _solve_positive(matrix.flatten(0, 1), right.flatten(0, 1))
            coefficients = coefficients.unflatten(0, (-1, len(fits)))
            left = goal - coefficients @ few
        coefficients = coefficients.to(basis.dtype)
        residual = target.flatten(2) - coefficients @ basis.flatten(2)
        return coefficients + start, residual.unflatten(2, pair.search.shape[1:])


def common_psf(
    search: Tensor,
    template: Tensor,
    noise: tuple[Tensor, Tensor],
    psfs: Tensor,
    known: Tensor,
    scaled: Tensor,
) -> Pair:
    """Convolve each image with the other's PSF, and divide by the noise of their difference.

    Parameters
    ----------
    search, template : Tensor (n, S, S)
        Without their sky, on one flux scale. What they are is what they are convolved in: in
        single precision, noise comes out uncertain by a ten-millionth of the brightest pixel.
    noise : (Tensor (n,), Tensor (n,))
        Standard deviation of their skies.
    psfs : Tensor (n, 2, P, P)
        Of search and template.
    known, scaled : Tensor (n,)
        1 where `psfs` are theirs and the flux scale is one, else 0.
    """
    n = search.shape[0]
    across = psfs.flip(1)
    kernels = torch.cat([across[:, 0], across[:, 1]]).to(search.dtype)
    both = convolve(torch.cat([search, template]), kernels)
    square = across.square().sum((-2, -1))
    sky = torch.stack([noise[0] ** 2, noise[1] ** 2], 1)
    variance = (sky * square).sum(1).clamp(min=1e-30)
    sigma = variance.sqrt()[:, None, None]
    weights = sky / variance[:, None]
    search, template = ((image / sigma).to(psfs.dtype) for image in (both[:n], both[n:]))
    return Pair(search, template, known, scaled, square.amin(1), across, weights)


def _kernel_parts(image: Tensor) -> Tensor:
    """The image convolved with each K_k, (n, k, S, S)."""
    levels = [image[:, None]]
    for step in range(_LEVELS - 1):
        levels.append(_smooth(levels[-1], 2**step))
    parts = [levels[0], *(b - a for a, b in pairwise(levels))]
    for level in _DERIVATIVES:
        x = F.pad(levels[level], (1, 1, 1, 1), mode="replicate")
        above, row, below = _neighbours(x, -2, 1)
        up, (left, middle, right), down = (_neighbours(x, -1, 1) for x in (above, row, below))
        across, along = left + right - 2 * middle, up[1] + down[1] - 2 * middle
        diagonal = down[2] + up[0] - down[0] - up[2]
        parts += [(right - left) / 2, (down[1] - up[1]) / 2, (across - along) / 2, diagonal / 4]
    return torch.cat(parts, 1)


def _smooth(image: Tensor, step: int) -> Tensor:
    """Binomial filter 1-2-1 with holes, along both axes; its σ² is step²/2."""
    x = F.pad(image, (step, step, step, step), mode="replicate")
    for axis in (-2, -1):
        before, middle, after = _neighbours(x, axis, step)
        x = middle / 2 + (before + after) / 4
    return x


def _neighbours(x: Tensor, axis: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """What lies before each pixel along an axis, the pixel, and what lies after it."""
    n = x.shape[axis] - 2 * step
    return x.narrow(axis, 0, n), x.narrow(axis, step, n), x.narrow(axis, 2 * step, n)


def _solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve (n, k, k) positive definite systems for (n, k, 1) right sides by Gauss and Jordan.

    Without pivots, which such systems do not need, and unrolled: an exported graph has nothing
    but sums and products. Their number is what a graph takes to make.
    """
    k = matrix.shape[-1]
    scale = matrix.diagonal(dim1=1, dim2=2).rsqrt()
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    system = torch.cat([scaled, right * scale[:, :, None]], 2).permute(1, 2, 0).contiguous()
    units = torch.eye(k, device=matrix.device, dtype=matrix.dtype)[:, :, None].unbind()
    for j, unit in enumerate(units):
        row = system.select(0, j) / system.select(0, j).select(0, j)
        system = system - (system.select(1, j) - unit)[:, None] * row
    return system.select(1, k).t() * scale
