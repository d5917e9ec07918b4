"""From the peaks of a map to probabilities: two numbers, found on validation tiles.

A focal loss makes a ranking, not probabilities. The logit of a peak is brought to that of the share
of such peaks that are real by a line (Platt 1999), which changes no ranking.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rb.scan.task import MATCH_PX, events_of, peaks, target_map

if TYPE_CHECKING:
    from rb.stamps import StampSet
    from rb.stamps.inputs import InputSpec

_LEAST_LOGIT = -7.0
_LEAST = 20  # of either kind; with fewer the logits stay as they are


def peaks_of_tiles(
    network: Any, stamp_set: StampSet, rows: NDArray, inputs: InputSpec
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits of the peaks of tiles, and whether a supernova is there.

    Peaks at edges, and on what is masked or too faint to be asked for, are left out.
    """
    events = events_of(stamp_set)
    logits, real = [], []
    with torch.inference_mode():
        for row in rows:
            found = network(*inputs.tensors(stamp_set.read(np.array([row]), inputs)))
            truth = torch.from_numpy(events[row : row + 1])
            target, weight = target_map(truth, found.shape[-1])
            high = peaks(found) & (weight > 0) & (found >= _LEAST_LOGIT)
            _, y, x = (part.numpy() for part in high.nonzero(as_tuple=True))
            _, ty, tx = (part.numpy() for part in (target == 1).nonzero(as_tuple=True))
            distance = np.hypot(x[:, None] - tx, y[:, None] - ty)
            real.append((distance <= MATCH_PX).any(1))
            logits.append(found[high].numpy().astype(np.float64))
    return np.concatenate(logits), np.concatenate(real)


def fit_line(logits: NDArray[np.float64], real: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the most likely line; 1 and 0 where there is too little to fit it to."""
    from scipy.optimize import minimize

    if min(real.sum(), (~real).sum()) < _LEAST:
        return 1.0, 0.0

    def loss(p: NDArray) -> float:
        line = p[0] * logits + p[1]
        return float(np.mean(np.logaddexp(0.0, np.where(real, -line, line))))

    found = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-5}).x
    # A line that falls would turn the ranking round.
    return (float(found[0]), float(found[1])) if found[0] > 0 else (1.0, 0.0)


def calibrate_checkpoint(
    path: Path, network: Any, stamp_set: StampSet, rows: NDArray, inputs: InputSpec
) -> tuple[float, float]:
    """Find both numbers on the tiles `rows` and write them into the checkpoint.

    Parameters
    ----------
    path : Path
        Of the weights, which another process may read meanwhile.
    network : DenseNetwork
        These weights, in evaluation mode.
    stamp_set, rows, inputs
        Validation tiles.

    Returns
    -------
    float, float
        Slope and offset. A checkpoint that has been calibrated gets the same again.
    """
    from rb.io.files import aside

    network.slope.fill_(1.0)
    network.offset.fill_(0.0)
    slope, offset = fit_line(*peaks_of_tiles(network, stamp_set, rows, inputs))
    content = torch.load(path, map_location="cpu", weights_only=True)
    content["state_dict"]["network.slope"] = torch.tensor(slope)
    content["state_dict"]["network.offset"] = torch.tensor(offset)
    with aside(path) as temporary:
        torch.save(content, temporary)
    return slope, offset
