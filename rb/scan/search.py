"""Where something new is: the dense network over an image of any size, piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rb.models.dense import fused
from rb.scan.task import MARGIN, PEAK_REACH
from rb.survey.pipeline.pair import MeasuredPair

_PSF_REACH = 14  # px, half a PSF and a bit
_GRID = 2  # the network folds so many pixels along a side


def heat_map(
    network: Any, pair: MeasuredPair, tile: int = 1024, told: Callable[[float], None] | None = None
) -> NDArray[np.float32]:
    """Logit of every pixel that something new is centred there.

    Pieces overlap by all that an answer depends on, so that it does not depend on them but for
    rounding.

    Parameters
    ----------
    network : DenseNetwork
        In evaluation mode.
    pair : MeasuredPair
        Images of any size.
    tile : int
        px along a side of what is looked at at once; bounds the memory.
    told : callable, optional
        Called with the share that is done.

    Returns
    -------
    ndarray of shape (height, width)
    """
    network = fused(network)
    reach = int(network.reach) + _PSF_REACH
    reach += reach % _GRID
    tile = max(tile - tile % _GRID, _GRID)
    height, width = pair.search.shape
    out = np.empty((height, width), np.float32)
    side = torch.from_numpy(
        np.concatenate([np.nan_to_num(pair.psf).ravel(), pair.noise]).astype(np.float32)
    )[None]
    corners = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
    with torch.inference_mode():
        for done, (top, left) in enumerate(corners):
            first_row, first_column = max(top - reach, 0), max(left - reach, 0)
            cut = (
                slice(first_row, min(top + tile + reach, height)),
                slice(first_column, min(left + tile + reach, width)),
            )
            both = np.stack([pair.search[cut], pair.template[cut]])
            # An odd row or column more is blank sky.
            odd = [(0, 0), (0, both.shape[1] % _GRID), (0, both.shape[2] % _GRID)]
            logits = network(torch.from_numpy(np.pad(both, odd))[None], side)[0].numpy()
            rows, columns = min(tile, height - top), min(tile, width - left)
            out[top : top + rows, left : left + columns] = logits[
                top - first_row : top - first_row + rows,
                left - first_column : left - first_column + columns,
            ]
            if told:
                told((done + 1) / len(corners))
    return out


def find_peaks(
    logits: NDArray[np.float32], masked: NDArray[np.bool_], least: float, edge: int = MARGIN
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of the peaks of a map from a logit of `least` on, the highest first.

    Peaks on masked pixels, and nearer than `edge` px to the border, are left out, as difference
    imaging leaves them out.
    """
    from scipy.ndimage import maximum_filter

    highest = maximum_filter(logits, 2 * PEAK_REACH + 1, mode="constant", cval=-np.inf)
    high = (logits == highest) & (logits >= least) & ~masked
    inside = np.zeros_like(high)
    inside[edge : high.shape[0] - edge, edge : high.shape[1] - edge] = True
    high &= inside
    row, column = np.nonzero(high)
    order = np.argsort(-logits[row, column], kind="stable")
    return column[order], row[order]
