"""Candidates of which only the features are known: the autoscan table without its stamps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.stamps import StampSet

if TYPE_CHECKING:
    import pandas as pd

    from rb.features.table import FeatureTable


class FeatureSet(StampSet):
    """A feature table in the place of a stamp set: a catalogue, and no stamps.

    It has no channels, so that networks refuse it; the forest takes its features from the
    catalogue. Every candidate is a group of its own.

    Parameters
    ----------
    table : FeatureTable
        The candidates.
    """

    def __init__(self, table: FeatureTable) -> None:
        self.path = Path(table.source)
        self.meta = {
            "source": "features",
            "survey": self.path.stem,
            "channels": [],
            "stamp_size": 0,
            "arrays": [],
            "digest": table.digest,
            "tables": [],
        }
        self._features = table

    @property
    def stamps(self) -> np.ndarray:  # type: ignore[override]
        """There are none."""
        raise UserError(f"{self.path}: features without stamps; choose data with stamps for this")

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """One row a candidate: id, label, group, and the features under their own names."""
        identity = {
            "id": self._features.ids,
            "label": self._features.labels,
            "group": self._features.ids,
        }
        rows = self._features.features.assign(**identity)
        rows["label"] = rows["label"].astype("Int8").where(rows["label"] >= 0)
        for ours, theirs in (("mag", "MAG"), ("snr", "SNR")):
            if theirs in rows:
                rows[ours] = rows[theirs]
        return rows

    @property
    def column_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the catalogue's columns."""
        return tuple(self.catalogue.columns)

    @property
    def _identity(self) -> pd.DataFrame:  # type: ignore[override]
        return self.catalogue

    def columns(self, names: Sequence[str], required: bool = True) -> pd.DataFrame:
        """Some columns of the catalogue; see `StampSet.columns`."""
        _ = self.catalogue
        return super().columns(names, required)

    def __len__(self) -> int:
        return len(self._features)


def open_stamps(config: dict[str, Any], *, progress: bool = True) -> FeatureSet:
    """Read the feature table ``config["table"]``.

    Raises
    ------
    UserError
        If it is missing, damaged, or holds no autoscan feature.
    """
    from rb.features.table import read_table

    if not isinstance(config.get("table"), str):
        raise UserError("data.table: give the feature table (CSV or Parquet)")
    return FeatureSet(read_table(config["table"], features=None, labels=None))
