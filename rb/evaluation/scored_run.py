"""Models and the candidates that they are evaluated on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.choose import Candidate, select
from rb.evaluation.results import RunResult
from rb.evaluation.timing import time_prediction
from rb.models.checkpoint import TrainedModel
from rb.models.forest.scorer import TrainedForest
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.missing_images import rows_that_lack
from rb.stamps.splits import make_split
from rb.tracking import Tracking

_PAPER_BATCH = 200  # the batch size that ms per stamp is quoted for, that of Table 2


@dataclass(frozen=True)
class ScoredRun:
    """What a model was evaluated on and what came of it."""

    candidate: Candidate
    result: RunResult
    stamp_set: StampSet
    rows: np.ndarray
    own_test: bool
    timing: pd.DataFrame | None


def score_runs(config: Mapping[str, Any], tracking: Tracking, console: Console) -> list[ScoredRun]:
    """Score the runs that ``config["runs"]`` names on the candidates that it asks for.

    Parameters
    ----------
    config : mapping
        As composed from ``conf/evaluate.yaml``.
    tracking : Tracking
        Where the runs are.
    console : Console
        Where progress goes.
    """
    candidates = select(tracking, config["runs"], Path(config["paths"]["cache"]))
    other = open_stamps(config["data"]) if config["data"]["name"] else None
    opened: dict[str, StampSet] = {}
    return [score_run(c, other, opened, config, console) for c in candidates]


def score_run(
    candidate: Candidate,
    other: StampSet | None,
    opened: dict[str, StampSet],
    config: Mapping[str, Any],
    console: Console,
) -> ScoredRun:
    """Score one model on `other`, or on the stamp set that it was trained on.

    Parameters
    ----------
    candidate : Candidate
        The model.
    other : StampSet or None
        Stamp set named by the user; None for the run's own.
    opened : dict
        Stamp sets opened before by their configuration; filled.
    config : mapping
        Keys ``subset``, ``threshold``, ``timing`` of ``conf/evaluate.yaml``.
    console : Console
        Where progress goes.

    Raises
    ------
    UserError
        If the stamp set is not known, not the one trained on, or the subset is empty.
    """
    training_set = candidate.model.facts.get("training_set") or {}
    trained_on = training_set.get("digest")
    if other is not None:
        stamp_set = other
    else:
        if candidate.config is None:
            raise UserError(
                f"runs: {candidate.name} is a file, so its stamp set is not known; "
                "name one with data=…"
            )
        stamp_set = _own_set(candidate, opened)
    own = trained_on == stamp_set.digest
    # The same stamps under other labels: what was held out is what its own labels held out.
    relabelled = not own and training_set.get("stamps_digest") == stamp_set.stamps_digest
    subset = config["subset"] or ("test" if own or relabelled else "all")
    rows = np.arange(len(stamp_set))
    if subset != "all":
        split = candidate.config["split"] if (own or relabelled) and candidate.config else None
        if split is None:
            raise UserError(
                f"subset={subset}: {candidate.name} has no split of {stamp_set.path.name}; "
                "use subset=all"
            )
        labels = stamp_set.labels
        if relabelled:
            labels = _own_set(candidate, opened).labels
        rows = make_split(labels, stamp_set.groups, **split)[subset]
        if not len(rows):
            raise UserError(f"subset={subset}: the split of {candidate.name} leaves it empty")
    elif own or relabelled:
        console.print(
            f"note: {candidate.name} is evaluated on all of its own stamp set, training included"
        )
    rows = np.sort(rows)
    model = candidate.model
    started = time.perf_counter()
    if isinstance(model, TrainedForest):
        source = model.source_for(stamp_set)
        if source != model.features_from:
            console.print(
                f"note: {candidate.name} learned from features of the {model.features_from}, those "
                f"of {stamp_set.name} come from the {source}"
            )
        p_real = model.score(stamp_set, rows, console)
    else:
        p_real = model.score(stamp_set, rows)
    elapsed = time.perf_counter() - started
    console.print(f"{candidate.name}: {len(rows):,} candidates scored in {elapsed:.1f} s")
    lacking = None
    if isinstance(model, TrainedModel):
        lacking = rows_that_lack(stamp_set, rows, model.inputs.channels)
        if lacking.any():
            console.print(
                f"note: {candidate.name} looks at {', '.join(model.inputs.channels)}; "
                f"{lacking.sum():,} of {len(rows):,} candidates lack one of them, and were scored "
                "as if it were empty (column lacking of scores.parquet)"
            )
    time_it = _time_forest if isinstance(model, TrainedForest) else _time
    timing = time_it(model, stamp_set, rows) if config["timing"] else None  # type: ignore[arg-type]
    metrics = candidate.metrics or {}
    cost = {
        "train_cpu_hours": metrics.get("cost/train_cpu_hours"),
        "train_wall_s": metrics.get("cost/train_wall_s"),
        "epochs": metrics.get("epochs"),
        "n_train": (model.facts.get("training_set") or {}).get("n_train"),
        "parameters": model.n_parameters,
    }
    if timing is not None:
        at = timing.set_index("batch_size").loc[_PAPER_BATCH]
        cost |= {"ms_per_stamp": at["ms_per_stamp"], "ms_per_stamp_mad": at["mad"]}
    result = RunResult(
        name=candidate.name,
        run_id=candidate.run_id,
        inputs=model.inputs.kind,  # type: ignore[arg-type]
        model=str(model.facts.get("name", candidate.name)),
        data_name=stamp_set.name,
        data_digest=stamp_set.digest,
        subset=subset,
        ids=stamp_set.ids[rows],
        labels=stamp_set.labels[rows],
        p_real=p_real,
        threshold=model.threshold if config["threshold"] is None else config["threshold"],
        history=candidate.history,
        cost={k: v for k, v in cost.items() if v is not None},
        settings=candidate.config or {},
        lacking=lacking,
    )
    return ScoredRun(candidate, result, stamp_set, rows, own and subset == "test", timing)


def _own_set(candidate: Candidate, opened: dict[str, StampSet]) -> StampSet:
    """The stamp set that a run was trained on, with the labels of then."""
    assert candidate.config is not None
    key = str(candidate.config["data"])
    if key not in opened:
        opened[key] = open_stamps(candidate.config["data"])
    found = opened[key].digest
    trained_on = (candidate.model.facts.get("training_set") or {}).get("digest")
    if trained_on and trained_on != found:
        raise UserError(
            f"run {candidate.name}: trained on a stamp set with digest {trained_on[:12]}, the "
            f"one found has {found[:12]}; restore the data or name other with data=…"
        )
    return opened[key]


def _time(model: TrainedModel, stamp_set: StampSet, rows: np.ndarray) -> pd.DataFrame:
    """Time of the network alone, as the paper's Table 1, and with reading and scaling."""
    raw = stamp_set.read(rows[:1000], model.inputs)
    prepared, *side = model.inputs.tensors(raw)

    def predict(x: torch.Tensor) -> torch.Tensor:
        return model.network(x, *(s[:1].expand(len(x), -1) for s in side))

    with torch.inference_mode():
        network = time_prediction(predict, prepared, max_seconds=1.5)
    whole = time_prediction(model.p_real, raw, max_seconds=1.5)
    network["ms_per_stamp_with_scaling"] = whole["ms_per_stamp"]
    return network


def _time_forest(model: TrainedForest, stamp_set: StampSet, rows: np.ndarray) -> pd.DataFrame:
    """Time of the trees alone and, where the features come from stamps, with computing them."""
    some = rows[:1000]
    features = model.features(stamp_set, some).features
    trees = time_prediction(
        lambda index: model.p_real_of_features(features.iloc[index]),
        np.arange(len(some)),
        max_seconds=1.5,
    )
    if model.source_for(stamp_set) == "stamps":
        raw = np.asarray(stamp_set.stamps[some])
        whole = time_prediction(model.p_real, raw, max_seconds=1.5)
        trees["ms_per_stamp_with_features"] = whole["ms_per_stamp"]
    return trees
