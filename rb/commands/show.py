"""`rb show`: describe a stamp set, draw a page of examples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rb.commands import Command
from rb.commands.arguments import positive, whole
from rb.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from rb.stamps.stampset import StampSet

_FORMATS = ("png", "pdf", "svg")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, help="folder of the stamp set")
    parser.add_argument(
        "--out", type=Path, metavar="PAGE", help="also draw example stamps (.png, .pdf, .svg)"
    )
    parser.add_argument("--stamps", type=positive, default=24, help="how many to draw (24)")
    parser.add_argument("--seed", type=whole, default=0, help="which ones (0)")
    parser.add_argument("--verify", action="store_true", help="compare content and digest")


def _show(arguments: argparse.Namespace) -> int:
    from rb.stamps.stampset import StampSet

    stamps = StampSet.open(arguments.set)
    if arguments.verify:
        stamps.verify()
    print(stamps)
    if arguments.out is not None:
        draw_examples(stamps, arguments.out, arguments.stamps, arguments.seed)
        print(f"  examples  {arguments.out}")
    return 0


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
    from rb.figures.style import LABEL_WORDS, label_color, save_figure

    rows = example_rows(stamps.labels, n, seed)
    labels = stamps.labels[rows]
    figure = stamp_page(
        stamps[rows],
        [
            f"{i}  {LABEL_WORDS.get(k, '')}".rstrip()
            for i, k in zip(stamps.ids[rows], labels, strict=True)
        ],
        stamps.channels,
        title=f"{stamps.name}: {len(rows)} of {len(stamps):,} candidates",
        colors=[label_color(k) for k in labels.tolist()],
    )
    save_figure(figure, path.with_suffix(""), formats=(suffix,))


def example_rows(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of at most `n` candidates, each label with an equal share where it has enough."""
    import numpy as np

    rng = np.random.default_rng(seed)
    of_label = [rng.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    chosen: list[int] = []
    for turn in range(max(map(len, of_label))):
        chosen += [int(rows[turn]) for rows in of_label if turn < len(rows)]
        if len(chosen) >= n:
            break
    # Real ones first, and in the order of the file.
    chosen = sorted(chosen[:n])
    return np.array(sorted(chosen, key=lambda row: labels[row] % 3))


COMMANDS = (Command(("show",), "describe a stamp set, draw examples of it", _add_arguments, _show),)
