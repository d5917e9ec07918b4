"""Join the autoscan feature table to the candidates of the DES archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.sources.des_archive import Listing

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 50_000  # rows held at a time
_LONGEST_LINE = 2**16

#: The survey's numeric columns (Goldstein et al. 2015, table 2); BAND is a letter.
# fmt: off
NUMERIC = frozenset((
    "AMP", "A_IMAGE", "A_REF", "B_IMAGE", "B_REF", "CCDID", "COLMEDS", "DIFFSUMRN", "ELLIPTICITY",
    "FLAGS", "FLUX_RATIO", "GAUSS", "GFLUX", "L1", "LACOSMIC", "MAG", "MAGDIFF", "MAGLIM",
    "MAG_FROM_LIMIT", "MAG_REF", "MAG_REF_ERR", "MASKFRAC", "MIN_DISTANCE_TO_EDGE_IN_NEW",
    "N2SIG3", "N2SIG3SHIFT", "N2SIG5", "N2SIG5SHIFT", "N3SIG3", "N3SIG3SHIFT", "N3SIG5",
    "N3SIG5SHIFT", "NN_DIST_RENORM", "NUMNEGRN", "SCALE", "SNR", "SPREADERR_MODEL", "SPREAD_MODEL",
))
# fmt: on

#: Value of the setting `table` for an archive without labels.
NO_TABLE = "none"


@dataclass
class Labels:
    """IDs and labels of a feature table, in order of ID."""

    path: Path
    ids: np.ndarray  # int64, sorted, unique
    labels: np.ndarray  # int8
    repeated: np.ndarray  # int64, IDs that have more than one row


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
        If it is not a table with these columns, or a value is no ID or no label, or an ID
        occurs with both labels.
    """
    ids, labels = [], []
    for chunk in _chunks(path, ["ID", "OBJECT_TYPE"]):
        ids.append(_integers(chunk["ID"], path, "ID"))
        label = _integers(chunk["OBJECT_TYPE"], path, "OBJECT_TYPE")
        wrong = np.flatnonzero((label != 0) & (label != 1))
        if len(wrong):
            raise UserError(
                f"{path}: candidate {ids[-1][wrong[0]]} has OBJECT_TYPE {label[wrong[0]]}; "
                "it has to be 0 (real) or 1 (bogus)"
            )
        labels.append(label.astype(np.int8))
    if not ids:
        raise UserError(f"{path}: the feature table has no rows")
    all_ids, all_labels = np.concatenate(ids), np.concatenate(labels)
    unique, first, counts = np.unique(all_ids, return_index=True, return_counts=True)
    bogus = np.bincount(np.searchsorted(unique, all_ids), all_labels, minlength=len(unique))
    torn = np.flatnonzero((bogus > 0) & (bogus < counts))
    if len(torn):
        raise UserError(
            f"{path}: candidate {unique[torn[0]]} is listed both as real and as bogus "
            f"({len(torn)} such IDs); remove the wrong rows"
        )
    return Labels(path, unique, all_labels[first], unique[counts > 1])


def read_features(path: Path, ids: np.ndarray) -> pd.DataFrame:
    """Read the rows of `ids` (sorted or not) from a feature table, in the order of `ids`.

    IDs without a row get NaN (``BAND``: null); of repeated rows the first counts. At no
    time is more of the table in memory than what is asked for.

    Returns
    -------
    pandas.DataFrame
        All columns but ID and OBJECT_TYPE, N rows, float64; BAND and columns that are not
        the survey's as they are.
    """
    import pandas as pd

    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    columns: dict[str, np.ndarray] = {}
    filled = np.zeros(len(ids), bool)
    for chunk in _chunks(path, None):
        found = _integers(chunk["ID"], path, "ID")
        at = np.minimum(np.searchsorted(ordered, found), len(ids) - 1)
        rows = order[at]
        new = (ordered[at] == found) & ~filled[rows]
        # Of two rows of one ID within a chunk, the first counts as well.
        new[new] = ~pd.Series(found[new]).duplicated().to_numpy()
        filled[rows[new]] = True
        for name in chunk.columns.drop(["ID", "OBJECT_TYPE"]):
            values = chunk[name].to_numpy()
            text = values.dtype.kind not in "fiub"
            if text and name in NUMERIC:
                raise UserError(f"{path}: column {name} has values that are not numbers")
            if name not in columns:
                empty = np.full(len(ids), np.nan)
                columns[name] = np.full(len(ids), None, object) if text else empty
            elif text and columns[name].dtype != object:
                columns[name] = columns[name].astype(object)
            columns[name][rows[new]] = values[new]
    return pd.DataFrame(columns, copy=False)


def _chunks(path: Path, columns: list[str] | None) -> Any:
    """Yield the table in pieces of bounded size, as pandas frames."""
    import gzip

    import pandas as pd

    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            comments, header = 0, lines.readline(_LONGEST_LINE)
            while header.startswith("#"):
                comments, header = comments + 1, lines.readline(_LONGEST_LINE)
        names = [name.strip() for name in header.strip().split(",")]
        for needed in ("ID", "OBJECT_TYPE"):
            if needed not in names:
                raise UserError(f"{path}: the feature table has no column {needed}")
        reader = pd.read_csv(
            path,
            skiprows=comments,
            usecols=columns,
            chunksize=_CHUNK,
            skipinitialspace=True,
            na_values=["nan", "NaN", "None", ""],
            low_memory=False,
        )
        with reader:
            yield from reader
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:  # pandas' ParserError is a ValueError
        raise UserError(f"{path}: not a feature table ({error})") from error


def _integers(column: pd.Series, path: Path, name: str) -> np.ndarray:
    values = column.to_numpy()
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values % 1 == 0).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise UserError(f"{path}: column {name} has values that are not whole numbers")
    return values.astype(np.int64)
