"""The table of suspects: every labelled candidate, the most suspicious first.

==============  ==========================================================================
``id``          the candidate
``label``       the label it has: 0 real, 1 bogus
``p_real``      what networks say that were not trained on it, their mean
``margin``      0: they contradict the label for sure, 1: they confirm it (`confident.margin`)
``rank``        1 is looked at first: suspects by margin, then the others by margin
``suspect``     whether it is off the diagonal of the confident joint
``suggested``   the other label for a suspect, else its own
``n_networks``  how many networks scored it
==============  ==========================================================================

The file also says which stamp set the candidates belong to.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.files import write_whole
from rb.io.tables import write_parquet
from rb.labels.confident import ConfidentJoint, confident_joint, margin
from rb.stamps.label_table import read_table
from rb.stamps.layout import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

_NEEDED = ("id", "label", "p_real", "rank")
SET_KEY = "stamp_set"
"""Attribute of the table: path of the stamp set."""


@dataclass(frozen=True)
class Scores:
    """Out-of-fold scores of one network: row numbers in the stamp set, and p_real of each."""

    rows: np.ndarray
    p_real: np.ndarray


def rank_suspects(
    ids: np.ndarray, labels: np.ndarray, scores: Sequence[Scores]
) -> tuple[pd.DataFrame, ConfidentJoint]:
    """Rank the candidates of a set by how much networks contradict their labels.

    Parameters
    ----------
    ids, labels
        (N,) of the whole stamp set; label -1 is unknown and is not ranked.
    scores
        Of one or more networks, each for candidates that it was not trained on. A candidate
        with several scores gets their mean.

    Returns
    -------
    table : DataFrame
        As above, in order of rank; candidates without a score are not in it.
    joint : ConfidentJoint
        Of the candidates of the table, `ConfidentJoint.suspects` in its order.

    Raises
    ------
    UserError
        If nothing was scored, or not both classes were.
    """
    import pandas as pd

    total = np.zeros(len(ids))
    times = np.zeros(len(ids), dtype=np.int64)
    for one in scores:
        np.add.at(total, one.rows, one.p_real)
        np.add.at(times, one.rows, 1)
    rows = np.flatnonzero((times > 0) & (labels != UNKNOWN))
    if not len(rows):
        raise UserError("no labelled candidate was scored; there is nothing to rank")
    suspects = confident_joint(labels[rows], total[rows] / times[rows]).suspects
    closeness = margin(labels[rows], total[rows] / times[rows])
    order = np.lexsort((rows, closeness, ~suspects))
    rows, suspects, closeness = rows[order], suspects[order], closeness[order]
    label, p_real = labels[rows], total[rows] / times[rows]
    table = pd.DataFrame(
        {
            "id": ids[rows],
            "label": label.astype(np.int8),
            "p_real": p_real,
            "margin": closeness,
            "rank": np.arange(1, len(rows) + 1),
            "suspect": suspects,
            "suggested": np.where(suspects, 1 - label, label).astype(np.int8),
            "n_networks": times[rows],
        }
    )
    return table, confident_joint(label, p_real)


def write_suspects(table: pd.DataFrame, path: Path, facts: dict[str, Any]) -> None:
    """Write the table, whole or not at all; `facts` (text and numbers) go with it."""
    stream = io.BytesIO()
    marked = table.copy(deep=False)
    marked.attrs = dict(facts)
    write_parquet(marked, stream)
    write_whole(path, stream.getvalue(), "the table of suspects")


def read_suspects(path: Path) -> pd.DataFrame:
    """The table of suspects in `path`, in order of rank; its facts are in ``attrs``.

    ``id`` is text, whatever it was. Any table with ``id``, ``label``, ``p_real`` and ``rank``
    will do, so one made elsewhere can be reviewed.

    Raises
    ------
    UserError
        If it is no such table.
    """
    table = read_table(path, "suspects")
    missing = [c for c in _NEEDED if c not in table]
    if missing:
        raise UserError(
            f"suspects: {path} has no column {', '.join(missing)}; write the table with "
            "python evaluate.py study=labels runs=SWEEP"
        )
    if "suspect" not in table:
        table["suspect"] = True
    return table.sort_values("rank", kind="stable").reset_index(drop=True)
