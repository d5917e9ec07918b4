"""Networks of several kinds, each trained several times, all scored on the same candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.evaluation.scored_run import ScoredRun

PROPERTIES = ("kind", "snr", "mag")


@dataclass(frozen=True)
class Repeats:
    """Scores of many trainings on one test set.

    Parameters
    ----------
    table : DataFrame
        A row for each training: ``model``, ``n_train``, ``inputs`` (dia, nodia), ``validation``
        (accuracy).
    p_real : ndarray of shape (trainings, n)
        Scores, in the order of `table`.
    candidates : DataFrame
        A row for each of the n candidates: ``label``, ``group`` and those of `PROPERTIES` that
        are known.
    """

    table: pd.DataFrame
    p_real: np.ndarray
    candidates: pd.DataFrame

    def of(self, model: str, n_train: int) -> np.ndarray:
        """Scores (trainings, n) of one kind of network; without rows if there is none."""
        rows = (self.table["model"] == model) & (self.table["n_train"] == n_train)
        return self.p_real[rows.to_numpy()]


def from_runs(runs: Sequence[ScoredRun]) -> Repeats:
    """Take runs that were scored on the same candidates.

    Raises
    ------
    UserError
        If they were scored on different ones.
    """
    first = runs[0]
    for run in runs:
        same = run.result.data_digest == first.result.data_digest
        if not (same and np.array_equal(run.result.ids, first.result.ids)):
            raise UserError(
                f"runs: {run.result.name} was tested on other candidates than "
                f"{first.result.name}; give runs of one split, or name the candidates with data=…"
            )
    table = pd.DataFrame(
        {
            "model": run.result.model,
            "n_train": int(run.result.cost.get("n_train", 0)),
            "inputs": run.result.inputs,
            "validation": run.result.validation_accuracy,
        }
        for run in runs
    )
    candidates = first.stamp_set.columns(PROPERTIES, required=False).iloc[first.rows]
    candidates = candidates.assign(
        label=first.result.labels, group=first.stamp_set.groups[first.rows]
    )
    scores = np.stack([run.result.p_real for run in runs])
    return Repeats(table, scores, candidates.reset_index(drop=True))


def from_folder(folder: Path) -> Repeats:
    """Read what ``benchmarks/nodia_gpu.py`` wrote.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    try:
        table = pd.read_csv(folder / "results.csv")
        candidates = pd.read_parquet(folder / "candidates.parquet")
        logits: dict[str, np.ndarray] = {}
        for file in sorted(folder.glob("scores*.npz")):
            with np.load(file, allow_pickle=False) as found:
                logits |= {name: found[name] for name in found.files}
        test = (candidates["subset"] == "test").to_numpy()
        names = [f"{r.variant}-{r.n_train}-{r.seed}" for r in table.itertuples()]
        each = np.stack([logits[name][test] for name in names]).astype(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"study.scores: {folder} does not hold what benchmarks/nodia_gpu.py writes ({error})"
        ) from error
    table = pd.DataFrame(
        {
            "model": table["variant"],
            "n_train": table["n_train"],
            "inputs": np.where(table["variant"].str.startswith("dia"), "dia", "nodia"),
            "validation": table["accuracy_val"],
        }
    )
    return Repeats(table, 1 / (1 + np.exp(-each)), candidates[test].reset_index(drop=True))
