"""Networks of several kinds, each trained several times, all scored on the same candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.evaluation.scored_run import ScoredRun

PROPERTIES = ("kind", "snr", "mag", "host_sep_arcsec", "seeing_srch", "seeing_tmpl")


@dataclass(frozen=True)
class Repeats:
    """Scores of many trainings on one test set.

    Parameters
    ----------
    table : DataFrame
        A row for each training: ``model``, ``n_train``, ``inputs`` (dia, nodia), ``validation``
        (accuracy) and, if known, ``mflop`` of one look at a stamp.
    p_real : ndarray of shape (trainings, n)
        Scores, in the order of `table`.
    candidates : DataFrame
        A row for each of the n candidates: ``label``, ``group`` and those of `PROPERTIES` that
        are known.
    plain : Repeats, optional
        The same, of one look at each stamp, where `p_real` is averaged over turned ones.
    validation : Repeats, optional
        The same trainings on the validation candidates.
    """

    table: pd.DataFrame
    p_real: np.ndarray
    candidates: pd.DataFrame
    plain: Repeats | None = None
    validation: Repeats | None = None

    def of(self, model: str, n_train: int) -> np.ndarray:
        """Scores (trainings, n) of one kind of network; without rows if there is none."""
        rows = (self.table["model"] == model) & (self.table["n_train"] == n_train)
        return self.p_real[rows.to_numpy()]

    @property
    def largest(self) -> int:
        """Training candidates of the largest trainings."""
        return int(self.table["n_train"].max())

    def best(self, inputs: str) -> str | None:
        """The model with these inputs that validates best, of the largest trainings.

        Only of those that were trained most often: one training may be a lucky one.
        """
        table = self.table[self.table["n_train"] == self.largest]
        table = table[table["model"].isin(self.repeated) & (table["inputs"] == inputs)]
        if table.empty:
            return None
        return str(table.groupby("model")["validation"].mean().idxmax())

    @property
    def repeated(self) -> list[str]:
        """The models that were trained most often on the largest training set."""
        counts = self.table[self.table["n_train"] == self.largest]["model"].value_counts(sort=False)
        return [str(model) for model in counts.index[counts == counts.max()]]


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
        test, held = ((candidates["subset"] == name).to_numpy() for name in ("test", "val"))
        names = [f"{r.variant}-{r.n_train}-{r.seed}" for r in table.itertuples()]
        each = np.stack([logits[name] for name in names])
        once = None
        if all(f"{name}-plain" in logits for name in names):
            once = np.stack([logits[f"{name}-plain"] for name in names])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"study.scores: {folder} does not hold what benchmarks/nodia_gpu.py writes ({error})"
        ) from error
    described = pd.DataFrame(
        {
            "model": table["variant"],
            "n_train": table["n_train"],
            "inputs": np.where(table["variant"].str.startswith("dia"), "dia", "nodia"),
            "validation": table["accuracy_val"],
        }
    )
    if "flops" in table:
        described["mflop"] = table["flops"] / 1e6

    def part(logit: np.ndarray, rows: np.ndarray) -> Repeats:
        p_real = 1 / (1 + np.exp(-logit[:, rows].astype(np.float64)))
        return Repeats(described, p_real, candidates[rows].reset_index(drop=True))

    return replace(
        part(each, test),
        plain=None if once is None else part(once, test),
        validation=part(each, held),
    )
