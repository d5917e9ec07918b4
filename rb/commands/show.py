"""A page of example stamps from a set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rb.errors import UserError
from rb.stamps.stampset import BOGUS, REAL, StampSet

_FORMATS = ("png", "pdf", "svg")


def draw_examples(stamps: StampSet, path: Path, n: int = 24, seed: int = 0) -> None:
    """Write a page of `n` stamps, real and bogus in equal numbers as far as there are any.

    Parameters
    ----------
    stamps : StampSet
        Where they come from.
    path : Path
        Picture to write; its suffix says which kind.
    n, seed : int
        How many, and which.

    Raises
    ------
    UserError
        If the suffix names no format that can be drawn.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _FORMATS:
        raise UserError(f"{path}: give the page one of the endings .{', .'.join(_FORMATS)}")
    from rb.figures.data.stamps import stamp_page
    from rb.figures.style import BOGUS_COLOR, REAL_COLOR, save_figure

    rows = example_rows(stamps.labels, n, seed)
    labels = stamps.labels[rows]
    words = {REAL: "real", BOGUS: "bogus"}
    colors = {REAL: REAL_COLOR, BOGUS: BOGUS_COLOR}
    figure = stamp_page(
        stamps[rows],
        [
            f"{i}  {words.get(k, '')}".rstrip()
            for i, k in zip(stamps.ids[rows], labels, strict=True)
        ],
        stamps.channels,
        title=f"{stamps.name}: {len(rows)} of {len(stamps):,} candidates",
        colors=[colors.get(k, "#222222") for k in labels.tolist()],
    )
    save_figure(figure, path.with_suffix(""), formats=(suffix,))


def example_rows(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of at most `n` candidates, each label with an equal share where it has enough."""
    rng = np.random.default_rng(seed)
    kinds = [rng.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    chosen: list[int] = []
    for turn in range(max(map(len, kinds))):
        chosen += [int(kind[turn]) for kind in kinds if turn < len(kind)]
        if len(chosen) >= n:
            break
    # Real ones first, and in the order of the file.
    chosen = sorted(chosen[:n])
    return np.array(sorted(chosen, key=lambda row: labels[row] % 3))
