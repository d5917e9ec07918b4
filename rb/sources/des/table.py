"""Join the autoscan feature table to the candidates of the DES archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rb.errors import UserError
from rb.sources.des.archive import Listing

#: Value of the setting `table` for an archive without labels.
NO_TABLE = "none"


@dataclass
class Labels:
    """IDs and labels of a feature table, in order of ID."""

    path: Path
    ids: np.ndarray  # int64, sorted, unique
    labels: np.ndarray  # int8


def find_table(listing: Listing, setting: str | None) -> Path | None:
    """Path of the feature table: the one that is named, or the one below the root.

    Raises
    ------
    UserError
        If it is missing, or several lie below the root and none is named.
    """
    if setting is not None and str(setting).lower() == NO_TABLE:
        return None
    if setting is not None:
        for path in (Path(setting).expanduser(), listing.root / setting):
            if path.is_file():
                return path
        raise UserError(f"{setting}: no such feature table (data.table)")
    if not listing.tables:
        raise UserError(
            f"{listing.root}: no feature table autoscan_features*.csv here; name one with "
            f"data.table=FILE, or leave the stamps unlabelled with data.table={NO_TABLE}"
        )
    if len(listing.tables) > 1:
        names = ", ".join(sorted(listing.relative(p) for p in listing.tables)[:4])
        raise UserError(
            f"{listing.root}: several feature tables ({names}); choose with data.table=FILE"
        )
    return listing.tables[0]


def read_labels(path: Path) -> Labels:
    """Read ID and OBJECT_TYPE (0 real, 1 bogus) of a feature table.

    Raises
    ------
    UserError
        If it is not such a table, see `rb.features.table.read_table`.
    """
    from rb.features.table import read_table

    table = read_table(path, features=())
    order = np.argsort(table.ids)
    return Labels(path, table.ids[order], table.labels[order])


def read_features(path: Path, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Read the features of the candidates `ids` (N,) from a feature table.

    Returns
    -------
    dict of float64 arrays
        The survey's features that the table has, (N,) each, in the order of `ids`; NaN for
        candidates without a row. BAND is a number, see `rb.features.columns.BAND_CODES`.
    """
    from rb.features.columns import ALL_38
    from rb.features.table import read_table

    names = _header(path)
    present = [name for name in ALL_38 if name in names]
    columns = {}
    # In parts, because all columns at once are in memory three times while they are read.
    for part in (present[:13], present[13:26], present[26:]):
        table = read_table(path, part)
        order = np.argsort(table.ids)
        at = order[np.minimum(np.searchsorted(table.ids, ids, sorter=order), len(order) - 1)]
        known = table.ids[at] == ids
        for name in part:
            columns[name] = np.where(known, table.features[name].to_numpy()[at], np.nan)
    return columns


def band_letters(codes: np.ndarray) -> np.ndarray:
    """Letters of filters from their numbers in BAND, (N,); None where there is no such filter."""
    from rb.features.columns import BAND_CODES

    letters = {float(code): letter for letter, code in BAND_CODES.items()}
    return np.array([letters.get(code) for code in codes.tolist()], dtype=object)


def _header(path: Path) -> set[str]:
    import gzip

    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                return {name.strip().strip('"') for name in line.split(",")}
    return set()
