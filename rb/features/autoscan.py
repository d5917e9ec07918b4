"""The autoscan features that a stamp triplet determines.

Goldstein et al. 2015 (arXiv 1504.02936) describe 38 features; 18 of them follow from the pixels
of the difference and template stamps alone and are computed here by the survey's definitions, 5
more are measured on the stamp in place of the survey's catalogue (:mod:`rb.features.detection`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd
import sep

from rb.errors import UserError
from rb.features.columns import FEATURES_FROM_STAMP, STAMP_SIDE
from rb.features.detection import measure
from rb.features.gaussian import fit_gaussian
from rb.features.normalised import Floats, median, normalised, rebinned, silent, unmask
from rb.features.structure import fine_structure_peak

_APERTURE_RADIUS = 5.0
# Large enough for the matrix products, small enough for the processor's cache.
_CHUNK = 256
_CENTRE_5 = slice(10, 15)
_CENTRE_7 = slice(9, 16)


def compute(
    stamps: np.ndarray, chunk: int = _CHUNK, progress: Callable[[int], object] | None = None
) -> pd.DataFrame:
    """Compute the features of many stamp triplets.

    Parameters
    ----------
    stamps
        (N, 3, 51, 51): difference, search, template; raw pixel values, any unit. May be a memory
        map: `chunk` triplets are in memory at a time. Pixels that hold 1e-30 (the mask of the DES
        stamps) or are not finite are left out of everything. A channel without any pixels gives
        NaN for what depends on it; the search image is not used.
    chunk
        Triplets computed at once.
    progress
        Called with the number of triplets done after each chunk.

    Returns
    -------
    pandas.DataFrame
        One row a triplet in the order of `stamps`, columns
        :data:`~rb.features.columns.FEATURES_FROM_STAMP`, float64. NaN where a stamp does not
        determine a feature: for example all but MASKFRAC where everything is masked, and what is
        counted in units of the noise where the difference is constant.

    Raises
    ------
    UserError
        Where the stamps have another shape.
    """
    if stamps.ndim != 4 or stamps.shape[1:] != (3, STAMP_SIDE, STAMP_SIDE):
        raise UserError(
            f"the autoscan features are defined on (N, 3, {STAMP_SIDE}, {STAMP_SIDE}) stamps, "
            f"these have shape {stamps.shape}"
        )
    if chunk < 1:
        raise UserError(f"chunk is {chunk}, it has to be at least 1")
    result = np.empty((len(stamps), len(FEATURES_FROM_STAMP)))
    for start in range(0, len(stamps), chunk):
        stop = min(start + chunk, len(stamps))
        part = stamps[start:stop]
        diff, tmpl = unmask(part[:, 0]), unmask(part[:, 2])
        # Stamps with gaps take slower paths; apart from each other, the rest is not held up.
        gaps = np.isnan(diff).any(axis=(1, 2)) | np.isnan(tmpl).any(axis=(1, 2))
        for index in (np.flatnonzero(~gaps), np.flatnonzero(gaps)):
            if len(index):
                columns = _features(diff[index], tmpl[index])
                result[start + index] = np.stack([columns[c] for c in FEATURES_FROM_STAMP], 1)
        if progress is not None:
            progress(stop)
    return pd.DataFrame(result, columns=list(FEATURES_FROM_STAMP))


def _features(diff: Floats, tmpl: Floats) -> dict[str, Floats]:
    with silent():
        return {
            **_counts(rebinned(diff), rebinned(tmpl)),
            **_shape(normalised(diff)),
            "FLUX_RATIO": _flux_ratio(diff, tmpl),
            "MASKFRAC": np.isnan(diff).mean(axis=(1, 2)),
            **measure(diff),
        }


def _counts(diff: Floats, tmpl: Floats) -> dict[str, Floats]:
    """Features in units of the noise, on form R: sums and counts in the central pixels."""
    inner, outer = (d[:, s, s] for d, s in ((diff, _CENTRE_5), (diff, _CENTRE_7)))
    result = {
        "DIFFSUMRN": _where_any(inner, np.nansum(inner, axis=(1, 2))),
        "NUMNEGRN": _number(outer < 0, outer),
    }
    for sigma in (2, 3):
        for size, cut in ((3, _CENTRE_5), (5, _CENTRE_7)):
            d, t = diff[:, cut, cut], tmpl[:, cut, cut]
            result[f"N{sigma}SIG{size}"] = _number(d <= -sigma, d)
            result[f"N{sigma}SIG{size}SHIFT"] = _number(d >= sigma, d) - _number(t >= sigma, t)
    return result


def _number(found: np.ndarray, values: Floats) -> Floats:
    return _where_any(values, found.sum(axis=(1, 2)).astype(np.float64))


def _where_any(values: Floats, result: Floats) -> Floats:
    """Blank `result` where none of the stamp's `values` could be counted."""
    return np.where(np.isnan(values).all(axis=(1, 2)), np.nan, result)


def _shape(image: Floats) -> dict[str, Floats]:
    """Features of form B of the difference."""
    fit = fit_gaussian(image)
    total = np.nansum(image, axis=(1, 2))
    spread = np.nansum(np.abs(image), axis=(1, 2))
    ratio = np.nanmax(image, axis=(1, 2)) / fine_structure_peak(image)
    return {
        "GAUSS": fit.residual,
        "SCALE": fit.sigma,
        "AMP": fit.amplitude,
        "COLMEDS": np.nanmax(median(image, 1), axis=1),
        "LACOSMIC": np.where(np.isfinite(ratio), ratio, np.nan),
        "L1": np.where(total == 0, np.nan, np.sign(total) * spread / np.sqrt(np.abs(total))),
    }


def _flux_ratio(diff: Floats, tmpl: Floats) -> Floats:
    """(F_d - F_t) / abs(F_t) in circles of 5 px about the central pixel."""
    weights = _aperture()
    inside = weights > 0
    light, host = diff[:, inside], tmpl[:, inside]
    flux_d, flux_t = (np.nansum(v * weights[inside], axis=1) for v in (light, host))
    ratio = (flux_d - flux_t) / np.abs(flux_t)
    unseen = np.isnan(light).all(axis=1) | ~np.isfinite(ratio)
    return np.where(unseen, np.nan, ratio)


@lru_cache
def _aperture() -> Floats:
    """Share of each pixel that `sep.sum_circle` counts; it is linear, so unit pixels tell."""
    weights = np.zeros((STAMP_SIDE, STAMP_SIDE))
    centre, reach = STAMP_SIDE // 2, int(_APERTURE_RADIUS) + 1
    near = range(centre - reach, centre + reach + 1)
    pixel = np.zeros_like(weights)
    for i in near:
        for j in near:
            pixel[i, j] = 1
            weights[i, j] = sep.sum_circle(pixel, [centre], [centre], _APERTURE_RADIUS)[0][0]
            pixel[i, j] = 0
    return weights
