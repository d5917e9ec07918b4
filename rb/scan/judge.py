"""A second look at what a search found, by a network that judges stamps of search and template."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rb.errors import UserError
from rb.models.contract import check_judges
from rb.stamps.batch import Stamps
from rb.stamps.layout import IMAGES, SIDE_COLUMNS
from rb.survey.pipeline.pair import MeasuredPair

SHARE = 0.75
"""Of the judge in the log odds; `benchmarks/scan.py --part share` is what it was chosen by."""


def check_judge(scorer: Any) -> None:
    """Raise UserError if a model cannot judge without a difference image."""
    check_judges(scorer)
    if scorer.inputs.kind != "nodia":
        raise UserError(
            f"{scorer.provenance.name} looks at {', '.join(scorer.inputs.channels) or 'features'}; "
            "without a difference image only a model of search and template can judge"
        )


def logit(p: np.ndarray) -> np.ndarray:
    """Of probabilities; finite."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(np.log(np.maximum(p, 1e-12) / np.maximum(1 - p, 1e-12)))


def judge(scorer: Any, pair: MeasuredPair, x: NDArray, y: NDArray) -> NDArray[np.float64]:
    """`p_real` (n,) by a model of search and template, of stamps round the pixels (x, y)."""
    if not len(x):
        return np.zeros(0)
    found = scorer.p_real(find_stamps(pair, x, y, scorer.inputs.size))
    return np.asarray(found, dtype=np.float64)


def both(search: NDArray, judge: NDArray, share: float = SHARE) -> NDArray[np.float64]:
    """Log odds of a search and of its judge together: a mean, the judge's with weight `share`."""
    return np.asarray((1.0 - share) * np.asarray(search, float) + share * np.asarray(judge))


def find_stamps(pair: MeasuredPair, x: NDArray, y: NDArray, size: int) -> Stamps:
    """Stamps of `size` px round the pixels (x, y), (n,), without a difference image.

    The images are on one flux scale, so both have one zero point; what lies outside is 0.
    """
    n, low = len(x), size // 2
    column, row = (np.rint(np.asarray(v)).astype(int) for v in (x, y))
    u = np.arange(size)
    images = np.full((n, 3, size, size), np.nan, np.float32)
    for channel, image in enumerate((pair.search, pair.template), start=1):
        padded = np.pad(image, size)
        top, left = row - low + size, column - low + size
        images[:, channel] = padded[top[:, None, None] + u[:, None], left[:, None, None] + u]
    side = dict.fromkeys(SIDE_COLUMNS, np.zeros(n))
    for name, noise in zip(IMAGES, pair.noise, strict=True):
        side[f"sky_noise_{name}"] = np.full(n, noise)
    psf = np.broadcast_to(pair.psf, (n, *pair.psf.shape))
    return Stamps(images, None, psf, side)
