"""What one run said about one set, in memory and on disk."""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.metrics.classification import ConfusionMatrix, Roc, confusion, evaluate_scores, known, roc
from rb.metrics.intervals import Estimate
from rb.models.contract import IMAGE_KINDS, KINDS

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
HISTORY_COLUMNS = ("epoch", "train/loss", "train/acc", "val/loss", "val/acc")
COST_KEYS = (
    "train_cpu_hours",
    "train_wall_s",
    "epochs",
    "n_train",
    "ms_per_stamp",
    "ms_per_stamp_mad",
    "parameters",
)
_TEXT = ("name", "run_id", "inputs", "model", "data_name", "data_digest", "subset")


@dataclass(frozen=True, eq=False)
class RunResult:
    """Scores of one run on one set, with what it took to get them.

    Parameters
    ----------
    name
        Name of the run as its user gave it.
    run_id
        Identifier in the tracking database.
    inputs
        One of `rb.models.contract.KINDS`: `dia` with the difference image, `nodia` without,
        `features` of both.
    model
        Name of the model configuration.
    data_name, data_digest
        Name and content digest of the stamp set.
    subset
        `"test"` or `"all"`.
    ids
        Stamp identifiers (n,), int64 or str, unique.
    labels
        (n,) 0 real, 1 bogus, -1 unknown.
    p_real
        (n,) probability of being real.
    threshold
        A stamp is called real where `p_real >= threshold`.
    history
        One row an epoch, columns `HISTORY_COLUMNS`; None where there was no training.
    cost
        Numbers under `COST_KEYS`; a missing one is unknown.
    settings
        What the run was configured with, JSON types only.
    lacking
        (n,) bool: whether the candidate lacks an image that the model looks at, which the model
        then took for an empty one. None where that is not known.

    Raises
    ------
    UserError
        If identifiers repeat, a label is none of 0, 1, -1, or a score is NaN or outside
        [0, 1].
    """

    name: str
    run_id: str
    inputs: str
    model: str
    data_name: str
    data_digest: str
    subset: str
    ids: np.ndarray
    labels: np.ndarray
    p_real: np.ndarray
    threshold: float = 0.5
    history: pd.DataFrame | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    lacking: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.inputs not in KINDS:
            raise ValueError(f"inputs must be one of {', '.join(KINDS)}, not {self.inputs!r}")
        ids = np.asarray(self.ids)
        if not len(ids) == len(self.labels) == len(self.p_real):
            raise ValueError(
                f"{len(ids)} ids, {len(self.labels)} labels and {len(self.p_real)} scores"
            )
        if np.unique(ids).size != ids.size:
            raise UserError(f"run {self.name}: its scores hold the same stamp id more than once")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int8))
        object.__setattr__(self, "p_real", np.asarray(self.p_real, dtype=np.float64))
        known(self.labels, self.p_real)

    @property
    def n(self) -> int:
        """Number of stamps, with or without a label."""
        return len(self.ids)

    @property
    def n_labelled(self) -> int:
        """Number of stamps whose label is known."""
        return int(np.count_nonzero(self.labels >= 0))

    @property
    def sees_stamps(self) -> bool:
        """Whether the model looked at images, and not at features of them."""
        return self.inputs in IMAGE_KINDS

    def metrics(self, confidence: float = 0.95) -> dict[str, Estimate]:
        """All metrics, see `rb.metrics.classification.evaluate_scores`."""
        return evaluate_scores(self.labels, self.p_real, self.threshold, confidence)

    def confusion(self) -> ConfusionMatrix:
        """Confusion matrix at the run's threshold."""
        return confusion(self.labels, self.p_real, self.threshold)

    def roc(self) -> Roc:
        """ROC curve, with the point of the run's threshold."""
        return roc(self.labels, self.p_real, self.threshold)

    @property
    def validation_accuracy(self) -> float:
        """Best validation accuracy in training, -1 where there was none: what runs are chosen by.

        Choosing by the scores themselves would choose on the test set.
        """
        if self.history is None or "val/acc" not in self.history:
            return -1.0
        best = self.history["val/acc"].max()
        return -1.0 if math.isnan(best) else float(best)

    def cost_of(self, key: str) -> float:
        """Cost under `key`, NaN where it is not known."""
        value = self.cost.get(key)
        return math.nan if value is None else float(value)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result as the folder `path`, replacing one that is there.

        The folder holds `scores.parquet` (id, label, p_real, lacking), `result.json` and,
        with a history, `history.parquet`. It is built under a temporary name and renamed.

        Raises
        ------
        UserError
            If `path` cannot be written, or is something other than an earlier result.
        """
        import pandas as pd

        path = Path(path)
        if path.exists() and not (path / "result.json").is_file():
            raise UserError(f"{path}: is there already and is no saved result; choose another name")
        about: dict[str, Any] = {"format": FORMAT} | {key: getattr(self, key) for key in _TEXT}
        about |= {"threshold": self.threshold, "has_history": self.history is not None}
        about |= {"cost": _finite(self.cost), "settings": dict(self.settings)}
        text = json.dumps(about, indent=2, allow_nan=False)
        scores = pd.DataFrame({"id": self.ids, "label": self.labels, "p_real": self.p_real})
        if self.lacking is not None:
            scores["lacking"] = self.lacking
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.mkdir(parents=True)
            scores.to_parquet(temporary / "scores.parquet", index=False)
            if self.history is not None:
                self.history.to_parquet(temporary / "history.parquet", index=False)
            (temporary / "result.json").write_text(text + "\n", encoding="utf-8")
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunResult:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If there is no whole result in `path`.
        """
        import pandas as pd
        import pyarrow

        path = Path(path)
        if not (path / "result.json").is_file():
            raise UserError(f"{path}: holds no saved result (result.json is missing)")
        try:
            about = json.loads((path / "result.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise UserError(
                    f"{path}: is of format {about['format']}, this version reads {FORMAT}; "
                    "evaluate the run again"
                )
            scores = pd.read_parquet(path / "scores.parquet")
            history = pd.read_parquet(path / "history.parquet") if about["has_history"] else None
            ids = scores["id"].to_numpy()
            return cls(
                **{key: about[key] for key in _TEXT},
                ids=ids if ids.dtype.kind in "iu" else ids.astype(str),
                labels=scores["label"].to_numpy(),
                p_real=scores["p_real"].to_numpy(),
                threshold=about["threshold"],
                history=history,
                cost={key: _number(value) for key, value in about["cost"].items()},
                settings=about["settings"],
                lacking=scores["lacking"].to_numpy(bool) if "lacking" in scores else None,
            )
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise UserError(
                f"{path}: the saved result is damaged ({error}); evaluate the run again"
            ) from error


def unique_names(results: Sequence[RunResult]) -> list[str]:
    """Names of the runs; those that repeat get the start of their run id."""
    names = [result.name for result in results]
    labels = [f"{r.name} ({r.run_id[:8]})" if names.count(r.name) > 1 else r.name for r in results]
    return [
        f"{label} #{i + 1}" if labels.count(label) > 1 else label for i, label in enumerate(labels)
    ]


def _finite(cost: Mapping[str, float]) -> dict[str, float | None]:
    # JSON has no NaN; an unknown cost is null.
    result: dict[str, float | None] = {}
    for key, value in cost.items():
        number = _number(value)
        result[key] = number if math.isfinite(number) else None
    return result


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    return int(value) if isinstance(value, int | np.integer) else float(value)
