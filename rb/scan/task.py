"""What a dense network is trained on: tiles, and for every pixel whether something new is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rb.models.classifier import Classifier
from rb.stamps.augment import augment, random_elements
from rb.stamps.datamodule import Batches, StampDataModule

if TYPE_CHECKING:
    from rb.stamps import StampSet

LEAST_SNR = 3.5
"""True SNR from which a transient is to be found; fainter ones count neither way."""

TOLD_SNR, MATCH_PX = 5.0, 2.5
"""What the validation counts: true SNR, and the farthest a find may lie off."""

MARGIN = 14
"""px at the edge of a tile or an image, where half the surroundings are unknown: nothing is
learned there, and nothing looked for."""

PEAK_REACH = 2
"""px within which a peak is the highest."""

_IGNORED_SNR = 1.0
_SPREAD_PX = 1.0  # sigma of what surrounds a transient in the map to be learned
_FREE_PX = 3.0  # round what counts neither way
_POSITIVE, _NEGATIVE = 2, 4  # exponents of the focal loss (Law & Deng 2018, ECCV, eq. 1)


class TileDataModule(StampDataModule):
    """Tiles with the events in them as labels (n, k, 3), see `events_of`."""

    def labels(self, subset: str) -> Tensor:
        """x, y and SNR of the events of each tile of `subset`."""
        labels = torch.from_numpy(events_of(self.stamp_set)[self.split[subset]])
        return labels.to(self.device) if self.in_memory else labels

    def val_dataloader(self) -> Batches:
        """In order; a tile is as large as hundreds of stamps."""
        return Batches(self.gather("val"), self.labels("val"), self.batch_size)


class DenseClassifier(Classifier):
    """A dense network in training.

    Parameters
    ----------
    augment : str, optional
        ``dihedral``: training tiles are turned and mirrored, the events in them too.
    **classifier
        What `Classifier` takes.
    """

    def __init__(self, augment: str | None = None, **classifier: Any) -> None:
        super().__init__(**classifier)
        self.augment = augment

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, ...]:
        """Turn a training batch."""
        if not (self.augment and self.training):
            return batch
        x, side, events = batch
        elements = random_elements(len(x), x.device)
        turned, turned_side = augment(x, side, self.inputs.side, elements)
        assert turned_side is not None
        return turned, turned_side, turn_events(events, elements, x.shape[-1])

    def loss(self, output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        """Penalty-reduced focal loss of a map (n, S, S) per event (Law & Deng 2018)."""
        target, weight = target_map(batch[-1], output.shape[-1])
        p = output.sigmoid()
        hit = target == 1
        positive = (1 - p) ** _POSITIVE * F.softplus(-output) * hit
        negative = (1 - target) ** _NEGATIVE * p**_POSITIVE * F.softplus(output) * ~hit
        return ((positive + negative) * weight).sum() / hit.sum().clamp(min=1)

    def epoch_metrics(self, output: Tensor, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """`acc`: share of the events among as many of the highest peaks of the batch."""
        return {"acc": recall_at_rank(output, batch[-1]) * len(output)}


def make_dense(settings: dict[str, Any], **classifier: Any) -> DenseClassifier:
    """The training module that the settings of ``trainer`` ask for."""
    return DenseClassifier(augment=settings.get("augment"), **classifier)


def events_of(stamp_set: StampSet) -> np.ndarray:
    """The truth of each tile: x, y in px and true SNR, float32 (n, k, 3), NaN where there is none.

    What lies on masked pixels has an SNR of 0.
    """
    table = stamp_set.table("events")
    rows = {identity: row for row, identity in enumerate(stamp_set.ids)}
    per_tile = table.groupby("id").cumcount().to_numpy()
    found = np.full((len(stamp_set), int(per_tile.max(initial=0)) + 1, 3), np.nan, np.float32)
    where = table["id"].map(rows).to_numpy()
    snr = np.where(table["masked"], 0.0, table["snr"])
    found[where, per_tile] = np.stack([table["x"], table["y"], snr], 1)
    return found


def turn_events(events: Tensor, elements: Tensor, size: int) -> Tensor:
    """Events (n, k, 3) of tiles that were turned by `elements`, bool (3, n)."""
    transpose, rows, columns = (e[:, None] for e in elements)
    x, y, snr = events.unbind(-1)
    x, y = torch.where(transpose, y, x), torch.where(transpose, x, y)
    y = torch.where(rows, size - 1 - y, y)
    x = torch.where(columns, size - 1 - x, x)
    return torch.stack([x, y, snr], -1)


def target_map(events: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The map to be learned, (n, S, S), and the weight of its pixels.

    It is 1 at the pixel that holds a transient and falls off round it; pixels at the edge and
    near what is too faint to be asked for, or masked, have no weight.
    """
    n, _, _ = events.shape
    target = events.new_zeros((n, size, size))
    weight = torch.zeros_like(target)
    weight[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = 1
    reach = int(max(4 * _SPREAD_PX, _FREE_PX))
    snr = torch.nan_to_num(events[..., 2], nan=-1.0)
    asked = snr >= LEAST_SNR
    # A masked one has an SNR of 0; what fades is not looked for.
    free = ((snr >= _IGNORED_SNR) | (snr == 0)) & ~asked
    for index, event in (asked | free).nonzero().tolist():
        x, y = (float(v) for v in events[index, event, :2])
        column, row = round(x), round(y)
        left, right = max(column - reach, 0), min(column + reach + 1, size)
        top, bottom = max(row - reach, 0), min(row + reach + 1, size)
        if left >= right or top >= bottom:
            continue
        u = torch.arange(left, right, device=events.device) - column
        v = torch.arange(top, bottom, device=events.device)[:, None] - row
        square = u**2 + v**2
        cut = (index, slice(top, bottom), slice(left, right))
        if asked[index, event]:
            bump = torch.exp(-square / (2 * _SPREAD_PX**2))
            target[cut] = torch.maximum(target[cut], bump.to(target))
        else:
            weight[cut] = torch.where(square <= _FREE_PX**2, 0.0, weight[cut])
    return target * (weight > 0), weight


def peaks(logits: Tensor) -> Tensor:
    """Whether each pixel of a map (n, S, S') is the highest within `PEAK_REACH` px."""
    size = 2 * PEAK_REACH + 1
    highest = F.max_pool2d(logits[:, None], size, stride=1, padding=PEAK_REACH)[:, 0]
    return logits == highest


def recall_at_rank(logits: Tensor, events: Tensor) -> Tensor:
    """Share of the events (true SNR of 5 and more) that the k highest peaks find, k of them."""
    size = logits.shape[-1]
    x, y, snr = events.unbind(-1)
    inside = (x >= MARGIN) & (x < size - MARGIN) & (y >= MARGIN) & (y < size - MARGIN)
    told = inside & (snr >= TOLD_SNR)
    k = int(told.sum())
    if not k:
        return logits.new_tensor(1.0)
    # Peaks on what counts neither way, masked or faint, are left out.
    _, weight = target_map(events, size)
    candidates = torch.where(peaks(logits) & (weight > 0), logits, -torch.inf).flatten()
    best = candidates.topk(min(k, candidates.numel())).indices
    tile, place = best // size**2, best % size**2
    row, column = place // size, place % size
    distance = torch.hypot(x[tile] - column[:, None], y[tile] - row[:, None])
    matched = (distance <= MATCH_PX) & told[tile]
    found = torch.zeros_like(told)
    hit = matched.any(1)
    nearest = torch.where(matched, distance, torch.inf).argmin(1)
    found[tile[hit], nearest[hit]] = True
    return found.sum() / k
