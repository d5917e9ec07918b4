"""What the search image and the template look like by themselves, free of scale and offset.

Published stamps are pictures of 8 bits, and surveys count in different units, so every number here
stays as it is when a stamp is multiplied and shifted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Image = NDArray[np.float64]

WHAT = {
    "corr_01": "correlation of the noise of neighbours in a row or column",
    "corr_11": "of diagonal neighbours",
    "corr_02": "of pixels two apart",
    "skew": "skewness of the sky pixels",
    "kurtosis": "their excess kurtosis",
    "above_5": "share of pixels more than 5 sigma above the sky",
    "peak": "brightest pixel within 5 px of the centre, in units of the noise",
    "concentration": "light within 3 px of that pixel over light within 9 px",
    "gradient": "slope of the sky across the stamp, in units of the noise",
    "noise_ratio": "noise of the template over that of the search image, at equal flux",
    "sharpness": "concentration in the template over that in the search image",
}
"""The statistics; the last two are of the pair."""

_SMOOTH = 9
"""Side in px of the box whose mean is taken off before noise is measured."""

_COARSE = 0.5
"""Grey levels further apart than this many sigma hide the noise."""


def measure(search: NDArray, template: NDArray) -> pd.DataFrame:
    """Statistics of pairs of stamps.

    Parameters
    ----------
    search, template : ndarray of shape (n, size, size)
        Stamps in any unit; what is not finite is left out.

    Returns
    -------
    pandas.DataFrame
        One row a pair; columns are the names of `WHAT`, once with ``srch_`` and once with
        ``tmpl_`` before them, and those of the pair. NaN where a stamp does not tell.
    """
    rows = []
    for pair in zip(search, template, strict=True):
        first, second = (_Stamp(np.asarray(image, dtype=np.float64)) for image in pair)
        row = {f"srch_{key}": value for key, value in first.statistics().items()}
        row |= {f"tmpl_{key}": value for key, value in second.statistics().items()}
        row["noise_ratio"] = second.noise / first.noise * _flux_ratio(first, second)
        row["sharpness"] = row["tmpl_concentration"] / row["srch_concentration"]
        rows.append(row)
    return pd.DataFrame(rows)


class _Stamp:
    """One image with its sky: pixels without light, their level and their noise."""

    def __init__(self, image: Image) -> None:
        self.image = np.where(np.isfinite(image), image, np.nanmedian(image))
        self.sky = np.isfinite(image)
        for _ in range(8):
            values = self.image[self.sky]
            self.level = float(np.median(values))
            spread = 1.4826 * float(np.median(np.abs(values - self.level))) or float(values.std())
            smooth = uniform_filter(self.image - self.level, 3)
            # A light source shows in the mean of 3x3 pixels before it shows in one.
            light = (np.abs(self.image - self.level) > 3.0 * spread) | (smooth > 1.5 * spread)
            self.sky = np.isfinite(image) & ~light
            if not self.sky.any():
                break
        residual = self.image - uniform_filter(self.image, _SMOOTH)
        self.residual = residual - (np.median(residual[self.sky]) if self.sky.any() else 0.0)
        step = np.min(np.diff(np.unique(image[np.isfinite(image)])), initial=np.inf)
        usable = self.sky.sum() > 200
        self.noise = float(self.residual[self.sky].std()) if usable else np.nan
        if not np.isfinite(step) or step > _COARSE * self.noise:
            self.noise = np.nan

    def statistics(self) -> dict[str, float]:
        """All that one image tells."""
        z = np.where(self.sky, self.residual / self.noise, np.nan)
        known = z[self.sky]
        scaled = (self.image - self.level) / self.noise
        near, far, peak = self._light()
        ramp = np.linspace(-0.5, 0.5, len(self.image))
        slopes = [np.nanmean(scaled * r * self.sky) for r in (ramp, ramp[:, None])]
        return {
            "corr_01": _correlation(z, (0, 1), (1, 0)),
            "corr_11": _correlation(z, (1, 1), (1, -1)),
            "corr_02": _correlation(z, (0, 2), (2, 0)),
            "skew": float(np.mean(known**3)) if len(known) else np.nan,
            "kurtosis": float(np.mean(known**4)) - 3.0 if len(known) else np.nan,
            "above_5": float(np.mean(scaled > 5.0)) if np.isfinite(self.noise) else np.nan,
            "peak": peak / self.noise,
            "concentration": near / far if far > 0 and near > 0 else np.nan,
            "gradient": float(12.0 * np.hypot(*slopes)),
        }

    def _light(self) -> tuple[float, float, float]:
        """Light within 3 and within 9 px of the brightest central pixel, and that pixel."""
        centre = len(self.image) // 2
        cut = self.image[centre - 5 : centre + 6, centre - 5 : centre + 6] - self.level
        row, column = np.unravel_index(cut.argmax(), cut.shape)
        y, x = np.indices(self.image.shape)
        r = np.hypot(y - row - centre + 5, x - column - centre + 5)
        light = self.image - self.level
        return float(light[r < 3].sum()), float(light[r < 9].sum()), float(cut.max())


def _correlation(z: Image, *steps: tuple[int, int]) -> float:
    """Mean product of pixels a step apart over the mean square."""
    height, width = z.shape
    values = []
    for dy, dx in steps:
        first = z[: height - dy, max(0, -dx) : width - max(0, dx)]
        second = z[dy:, max(0, dx) : width + min(0, dx)]
        values.append(np.nanmean(first * second) / np.nanmean(z**2))
    return float(np.mean(values))


def _flux_ratio(search: _Stamp, template: _Stamp) -> float:
    """Search flux per template flux, from what is bright in both; NaN where nothing is."""
    first, second = (uniform_filter(s.image - s.level, _SMOOTH) for s in (search, template))
    bright = second > 3.0 * template.noise
    if bright.sum() < 20:
        return np.nan
    ratio = float(np.sum(first[bright] * second[bright]) / np.sum(second[bright] ** 2))
    return ratio if ratio > 0 else np.nan
