"""One verdict a candidate, out of those of several inspectors."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rb.errors import UserError
from rb.io.files import check_target, write_whole
from rb.io.tables import write_parquet
from rb.labels.journal import VERDICTS
from rb.metrics.intervals import UNDEFINED, Estimate, proportion
from rb.stamps.label_table import as_numbers
from rb.stamps.layout import BOGUS, REAL

if TYPE_CHECKING:
    import pandas as pd


def merge_verdicts(
    said: Mapping[str, pd.DataFrame], *, at_least: int = 1, unanimous: bool = False
) -> pd.DataFrame:
    """Combine verdicts: real or bogus needs more than half of the inspectors who looked.

    Parameters
    ----------
    said
        By inspector what `rb.labels.journal.read_journal` gives.
    at_least
        Candidates that fewer inspectors looked at have no verdict.
    unanimous
        Every disputed candidate has none, also where most agree.

    Returns
    -------
    DataFrame
        A row a candidate: ``id``, ``verdict`` (0 real, 1 bogus, null where there is none),
        ``n_real``, ``n_bogus``, ``n_unsure``, ``disputed`` (some say real and some bogus),
        ``label`` (the one it had; null if unknown), ``inspectors`` (names, with semicolons),
        ``stamp`` (mark of the pixels seen).

    Raises
    ------
    UserError
        If inspectors were shown different pixels under one id.
    """
    import pandas as pd

    every = pd.concat(
        [table.assign(inspector=name) for name, table in said.items()], ignore_index=True
    )
    marks = every[every["stamp"] != ""].groupby("id")["stamp"].nunique()
    if (marks > 1).any():
        raise UserError(
            f"inspectors have seen different pixels of candidate {marks[marks > 1].index[0]}; "
            "these verdicts are not on the same stamp set"
        )
    counts = pd.crosstab(every["id"], every["verdict"]).reindex(columns=VERDICTS, fill_value=0)
    n_real, n_bogus, n_unsure = (counts[v].to_numpy() for v in VERDICTS)
    votes = n_real + n_bogus + n_unsure
    disputed = (n_real > 0) & (n_bogus > 0)
    verdict = np.where(2 * n_real > votes, REAL, np.where(2 * n_bogus > votes, BOGUS, -1))
    verdict[votes < at_least] = -1
    if unanimous:
        verdict[disputed] = -1
    first = every.drop_duplicates("id").set_index("id").reindex(counts.index)
    label = first["label"].to_numpy(dtype=np.int8)
    names = every.sort_values("inspector").groupby("id")["inspector"].agg("; ".join)
    ids = as_numbers(counts.index.to_numpy(dtype=object))
    table = pd.DataFrame(
        {
            "id": ids if ids.dtype.kind == "i" else pd.array(ids, dtype="string"),
            "verdict": _nullable(verdict),
            "n_real": n_real,
            "n_bogus": n_bogus,
            "n_unsure": n_unsure,
            "disputed": disputed,
            "label": _nullable(label),
            "inspectors": names.reindex(counts.index).to_numpy(),
            "stamp": first["stamp"].replace("", None).to_numpy(),
        }
    )
    return table.sort_values("id", ignore_index=True)


def write_verdicts(table: pd.DataFrame, path: Path) -> None:
    """Write the table as parquet, or as CSV where `path` ends so; whole or not at all."""
    check_target(path, [".parquet", ".csv"])
    stream = io.BytesIO()
    if path.suffix == ".parquet":
        write_parquet(table, stream)
    else:
        table.to_csv(stream, index=False)
    write_whole(path, stream.getvalue(), "the table of verdicts")


@dataclass(frozen=True)
class Agreement:
    """How far some inspectors agree on the candidates that all of them judged.

    Attributes
    ----------
    inspectors : tuple of str
        Who.
    n : int
        Candidates that all of them judged.
    alike : Estimate
        Share on which all said the same of real, bogus and unsure, with Wilson interval.
    kappa : float
        Cohen's kappa of two, Fleiss' of more: 1 full agreement, 0 as by chance. NaN where
        it is not defined, because only one of the three answers was given.
    """

    inspectors: tuple[str, ...]
    n: int
    alike: Estimate
    kappa: float


def agreements(said: Mapping[str, pd.DataFrame], confidence: float = 0.95) -> list[Agreement]:
    """Agreement of each pair of inspectors and, of three or more, of all together.

    Kappa after Cohen (1960, Educ. Psychol. Meas. 20, 37) and Fleiss (1971, Psychol. Bull.
    76, 378).
    """
    import pandas as pd

    wide = pd.DataFrame({name: table.set_index("id")["verdict"] for name, table in said.items()})
    groups: list[tuple[str, ...]] = list(itertools.combinations(wide.columns, 2))
    if len(wide.columns) > 2:
        groups.append(tuple(wide.columns))
    return [_agreement(wide[list(group)].dropna(), confidence) for group in groups]


def _agreement(both: pd.DataFrame, confidence: float) -> Agreement:
    codes = np.array([[VERDICTS.index(v) for v in row] for row in both.to_numpy()], dtype=int)
    codes = codes.reshape(len(both), both.shape[1])
    alike = (codes == codes[:, :1]).all(1)
    share = proportion(int(alike.sum()), len(codes), confidence) if len(codes) else UNDEFINED
    return Agreement(tuple(both.columns), len(codes), share, _kappa(codes))


def _kappa(codes: np.ndarray) -> float:
    """Cohen's or Fleiss' kappa of (n, inspectors) answers."""
    if not len(codes) or len(np.unique(codes)) < 2:
        return math.nan
    from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

    k = len(VERDICTS)
    if codes.shape[1] == 2:
        table = np.zeros((k, k), dtype=int)
        np.add.at(table, (codes[:, 0], codes[:, 1]), 1)
        return float(cohens_kappa(table, return_results=False))
    counts = np.stack([(codes == answer).sum(1) for answer in range(k)], axis=1)
    return float(fleiss_kappa(counts))


@dataclass(frozen=True)
class Outcome:
    """What inspection made of the candidates with one label: shares with Wilson intervals."""

    label: int
    n: int
    overturned: Estimate
    disputed: Estimate


def outcomes(table: pd.DataFrame, confidence: float = 0.95) -> list[Outcome]:
    """For each label the share that inspectors turned round, and that they dispute.

    Disputed: some say real and some bogus, or there is no majority. The paper (appendix D)
    has about 3 % and 10 % of 300 bogus candidates.
    """
    found = []
    for label in (REAL, BOGUS):
        part = table[(table["label"] == label).fillna(False)]
        if len(part):
            turned = (part["verdict"] == 1 - label).fillna(False)
            open_ = part["disputed"] | part["verdict"].isna()
            found.append(
                Outcome(
                    label,
                    len(part),
                    proportion(int(turned.sum()), len(part), confidence),
                    proportion(int(open_.sum()), len(part), confidence),
                )
            )
    return found


def _nullable(values: np.ndarray) -> pd.arrays.IntegerArray:
    import pandas as pd

    values = values.astype(np.int8)
    return pd.arrays.IntegerArray(values, values < 0)
