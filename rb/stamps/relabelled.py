"""A stamp set whose labels come, in part, from a table of verdicts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.stamps import StampSet
from rb.stamps.label_table import as_text, digest_of, read_verdicts, stamp_mark
from rb.stamps.layout import BOGUS, REAL, UNKNOWN

if TYPE_CHECKING:
    import pandas as pd


class RelabelledSet(StampSet):
    """The stamps of a set with other labels; nothing on disk is changed.

    Made by `relabel`. ``digest`` is that of stamps and labels together, so a run trained on
    these labels is not taken for one trained on the set's own; ``stamps_digest`` stays that
    of the set on disk.

    Attributes
    ----------
    labels_facts : dict
        ``table`` (path), ``digest``, ``n_verdicts``, and how many labels the table turned
        to real, to bogus, to unknown, and gave to candidates that had none; also
        ``meta["labels"]``.
    """

    def __init__(self, base: StampSet, table: Path, verdicts: pd.DataFrame) -> None:
        rows, given = _matched(base, table, verdicts)
        before = base.labels
        after = before.copy()
        after[rows] = given
        turned = after != before
        self._base = base
        self._given = after
        self.path = base.path
        self.labels_facts: dict[str, Any] = {
            "table": str(table.absolute()),
            "digest": digest_of(verdicts),
            "n_verdicts": len(verdicts),
            "n_bogus_to_real": int(np.sum(turned & (before == BOGUS) & (after == REAL))),
            "n_real_to_bogus": int(np.sum(turned & (before == REAL) & (after == BOGUS))),
            "n_to_unknown": int(np.sum(turned & (after == UNKNOWN))),
            "n_unknown_to_known": int(np.sum(turned & (before == UNKNOWN))),
        }
        self.meta = base.meta | {"labels": self.labels_facts}

    @property
    def stamps(self) -> np.ndarray:  # type: ignore[override]
        """The stamps of the set underneath."""
        return self._base.stamps

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """One row a stamp; ``label`` is that after the table."""
        return self._relabelled(self._base.catalogue)

    @property
    def column_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the catalogue's columns."""
        return self._base.column_names

    def columns(self, names: Sequence[str], required: bool = True) -> pd.DataFrame:
        """Some columns of the catalogue; ``label`` is that after the table."""
        return self._relabelled(self._base.columns(names, required))

    @cached_property
    def _identity(self) -> pd.DataFrame:
        return self._relabelled(self._base._identity)

    def _relabelled(self, part: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        if "label" not in part:
            return part
        label = pd.arrays.IntegerArray(self._given.copy(), self._given == UNKNOWN)
        return part.assign(label=label)

    def __len__(self) -> int:
        return len(self._base)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the set on disk and of the table."""
        both = f"{self.stamps_digest}\n{self.labels_facts['digest']}"
        return hashlib.sha256(both.encode()).hexdigest()

    def __str__(self) -> str:
        facts = self.labels_facts
        return (
            f"{super().__str__()}\n  relabelled by {facts['table']}: "
            f"{facts['n_bogus_to_real']:,} to real, {facts['n_real_to_bogus']:,} to bogus, "
            f"{facts['n_to_unknown']:,} to unknown, {facts['n_unknown_to_known']:,} newly labelled"
        )


def relabel(base: StampSet, table: str | os.PathLike[str]) -> RelabelledSet:
    """Let the verdicts of `table` replace the labels of `base`.

    Candidates that the table does not name keep their label. A null verdict (unsure,
    disputed) makes a label unknown, which leaves the candidate out of training and tests.

    Parameters
    ----------
    base
        The stamp set.
    table
        Parquet or CSV with ``id`` and ``verdict`` (0 real, 1 bogus, null), as written by
        ``rb labels merge``. With a column ``stamp`` the pixels are compared as well.

    Raises
    ------
    UserError
        If the table is unusable, or names candidates that the set does not have, or that
        look different there.
    """
    path = Path(os.path.expandvars(os.fspath(table))).expanduser()
    return RelabelledSet(base, path, read_verdicts(path))


def _matched(base: StampSet, table: Path, verdicts: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the set that the table names, and what it says of them."""
    import pandas as pd

    rows = pd.Index(as_text(base.ids)).get_indexer(verdicts["id"])
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise UserError(
            f"data.labels: {len(missing):,} of {len(rows):,} ids in {table} are not in the set "
            f"{base.path} (the first is {verdicts['id'].iloc[missing[0]]}); use the table with "
            "the set that it was made for"
        )
    if "stamp" in verdicts and base.channels:  # a feature table has no pixels to compare
        for row, mark in zip(rows, verdicts["stamp"], strict=True):
            if isinstance(mark, str) and mark != stamp_mark(base[row]):
                raise UserError(
                    f"data.labels: candidate {base.ids[row]} of {base.path} has other pixels than "
                    f"the inspectors of {table} have seen; use the set that it was made for"
                )
    return rows, verdicts["verdict"].to_numpy()
