"""Least-squares fits of a round Gaussian to many stamps at once.

The model A exp(-((x - x0)² + (y - y0)²) / 2σ²) is a product of a function of x and one of y, so
the gradient and the normal matrix of a fit are a handful of products of the stamp with 51-element
vectors. That makes a Levenberg-Marquardt step for a few hundred stamps a few matrix products,
without a Jacobian ever being built.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rb.features.normalised import Floats

_CENTRE = (24.5, 25.5)
_START_AMPLITUDE, _START_SIGMA = 10.0, 10.0
# Below the first, all of the Gaussian's light misses every pixel but one; beyond the second it
# is a constant over the stamp. Neither changes the model any more.
_SIGMA = (1e-2, 1e3)
_STEPS = 200
_TOLERANCE = 1e-7
_LEAST_DAMPING, _MOST_DAMPING = 1e-12, 1e12


class GaussianFit(NamedTuple):
    """Results, one value a stamp.

    `amplitude`, `x`, `y` (0-based pixels), `sigma` (pixels, positive) and `residual`, the sum of
    squared residuals over the stamp. NaN where the stamp has no pixels.
    """

    amplitude: Floats
    x: Floats
    y: Floats
    sigma: Floats
    residual: Floats


def fit_gaussian(stamps: np.ndarray) -> GaussianFit:
    """Fit a round Gaussian to each stamp.

    The centre is bounded to 24.5-25.5 px, the fit starts at amplitude 10 and σ 10 in the middle,
    as in the survey's feature extraction (Goldstein et al. 2015, arXiv 1504.02936).

    Parameters
    ----------
    stamps
        (n, 51, 51); NaN pixels are left out.

    Returns
    -------
    GaussianFit
        For a stamp of zeros, amplitude and residual 0 and σ NaN. A stamp of noise alone can have
        several minima, and one of them may be a flat surface: σ then ends at 1000.
    """
    data = np.asarray(stamps, dtype=np.float64)
    kept = np.isfinite(data)
    weights = None if kept.all() else kept.astype(np.float64)
    data = data if weights is None else np.where(kept, data, 0.0)
    n = len(data)
    middle = (_CENTRE[0] + _CENTRE[1]) / 2
    parameters = np.tile([_START_AMPLITUDE, middle, middle, _START_SIGMA], (n, 1))
    power = np.einsum("nij,nij->n", data, data)
    empty = power == 0
    active = np.flatnonzero(~empty)
    damping = np.full(n, 1.0)
    light, model = _sums(parameters, data, weights)
    residual = _residual(power, parameters[:, 0], light, model)
    for _ in range(_STEPS):
        if not len(active):
            break
        trial = _step(parameters[active], light[active], model[active], damping[active])
        part = None if weights is None else weights[active]
        new_light, new_model = _sums(trial, data[active], part)
        new = _residual(power[active], trial[:, 0], new_light, new_model)
        old = residual[active]
        better = new < old
        moved = active[better]
        change = np.abs(trial - parameters[active]) / (1e-3 + np.abs(trial))
        parameters[moved], residual[moved] = trial[better], new[better]
        light[moved], model[moved] = new_light[better], new_model[better]
        damping[active] = (damping[active] * np.where(better, 0.1, 10)).clip(_LEAST_DAMPING)
        settled = (change < _TOLERANCE).all(axis=1) & (old - new <= _TOLERANCE * old)
        active = active[~(settled | (damping[active] > _MOST_DAMPING))]
    parameters[empty] = [0, middle, middle, np.nan]
    residual[empty] = 0
    if weights is not None:
        blank = ~kept.any(axis=(1, 2))
        parameters[blank] = np.nan
        residual[blank] = np.nan
    amplitude, x, y, sigma = parameters.T
    return GaussianFit(amplitude, x, y, sigma, np.maximum(residual, 0))


def _sums(parameters: Floats, data: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """Moments of the data and of the model under the current Gaussians.

    With G the Gaussian of amplitude 1: Σ D G dx^k dy^l as (n, 3, 3) and Σ W G² dx^k dy^l as
    (n, 5, 5), both indexed [stamp, l, k].
    """
    _, x, y, sigma = parameters.T
    pixels = np.arange(data.shape[1], dtype=np.float64)
    dx, dy = pixels - x[:, None], pixels - y[:, None]
    gx, gy = (np.exp(-0.5 * (d / sigma[:, None]) ** 2) for d in (dx, dy))
    across, along = _powers(gx, dx, 3), _powers(gy, dy, 3)
    light = along @ (data @ across.transpose(0, 2, 1))
    across, along = _powers(gx * gx, dx, 5), _powers(gy * gy, dy, 5)
    if weights is None:
        return light, along.sum(2)[:, :, None] * across.sum(2)[:, None, :]
    return light, along @ (weights @ across.transpose(0, 2, 1))


def _powers(profile: Floats, offset: Floats, order: int) -> Floats:
    """(n, order, pixels): the profile times the offset to the powers 0, 1, ..."""
    result = np.empty((len(profile), order, profile.shape[1]))
    result[:, 0] = profile
    for k in range(1, order):
        np.multiply(result[:, k - 1], offset, out=result[:, k])
    return result


def _residual(power: Floats, amplitude: Floats, light: Floats, model: Floats) -> Floats:
    """Sum of squared residuals, from the data's sum of squares."""
    return power - 2 * amplitude * light[:, 0, 0] + amplitude**2 * model[:, 0, 0]


def _step(parameters: Floats, light: Floats, model: Floats, damping: Floats) -> Floats:
    """Return the parameters after a damped step inside the bounds."""
    a, _, _, s = parameters.T
    d, m = light.transpose(1, 2, 0), model.transpose(1, 2, 0)
    # Derivatives of the model are G times: 1, a dx / σ², a dy / σ², a (dx² + dy²) / σ³.
    u, v = a / s**2, a / s**3
    left = d[:3, :3] - a * m[:3, :3]
    gradient = np.stack([left[0, 0], u * left[0, 1], u * left[1, 0], v * (left[0, 2] + left[2, 0])])
    normal = np.empty((4, 4, len(a)))
    normal[0, 0] = m[0, 0]
    normal[0, 1], normal[0, 2] = u * m[0, 1], u * m[1, 0]
    normal[0, 3] = v * (m[0, 2] + m[2, 0])
    normal[1, 1], normal[1, 2], normal[2, 2] = u**2 * m[0, 2], u**2 * m[1, 1], u**2 * m[2, 0]
    normal[1, 3] = u * v * (m[0, 3] + m[2, 1])
    normal[2, 3] = u * v * (m[1, 2] + m[3, 0])
    normal[3, 3] = v**2 * (m[0, 4] + 2 * m[2, 2] + m[4, 0])
    for i in range(4):
        for j in range(i):
            normal[i, j] = normal[j, i]
    gradient, normal = gradient.T.copy(), np.moveaxis(normal, 2, 0).copy()
    # A centre at its bound that is pulled outwards stays there and leaves the equations.
    for i in (1, 2):
        low = (parameters[:, i] <= _CENTRE[0]) & (gradient[:, i] < 0)
        held = low | ((parameters[:, i] >= _CENTRE[1]) & (gradient[:, i] > 0))
        gradient[held, i] = 0
        normal[held, i, :] = normal[held, :, i] = 0
    diagonal = np.einsum("nii->ni", normal)
    scale = np.where(diagonal > 0, diagonal, 1.0)
    # In units of the diagonal, so that the equations stay solvable in double precision.
    root = np.sqrt(scale)
    matrix = normal / (root[:, :, None] * root[:, None, :])
    matrix += np.eye(4) * np.where(diagonal > 0, damping[:, None], 1.0)[:, None, :]
    step = np.linalg.solve(matrix, (gradient / root)[:, :, None])[:, :, 0] / root
    trial = parameters + step
    trial[:, 1:3] = trial[:, 1:3].clip(*_CENTRE)
    # σ at most halves or doubles: far steps land where the Gaussian sees no pixel, for ever.
    trial[:, 3] = trial[:, 3].clip(0.5 * s, 2 * s).clip(*_SIGMA)
    return trial
