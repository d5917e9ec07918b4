"""Models and the candidates that they are evaluated on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.choose import ChosenModel, select
from rb.evaluation.results import RunResult
from rb.metrics.timing import BATCH_SIZES
from rb.models.contract import check_judges
from rb.scoring.load import engine_of
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.missing_images import rows_that_lack
from rb.stamps.splits import make_split
from rb.tracking import Tracking

_PAPER_BATCH = 200  # the batch size that ms per stamp is quoted for, that of Table 2
_TIMED = 1000  # candidates


@dataclass(frozen=True)
class ScoredRun:
    """What a model was evaluated on and what came of it."""

    chosen: ChosenModel
    result: RunResult
    stamp_set: StampSet
    rows: np.ndarray
    own_test: bool
    timing: pd.DataFrame | None


def score_runs(config: Mapping[str, Any], tracking: Tracking, console: Console) -> list[ScoredRun]:
    """Score the runs that `config["runs"]` names on the candidates that it asks for.

    Parameters
    ----------
    config : mapping
        As composed from `conf/evaluate.yaml`.
    tracking : Tracking
        Where the runs are.
    console : Console
        Where progress goes.
    """
    chosen = select(tracking, config["runs"], Path(config["paths"]["cache"]))
    for one in chosen:
        check_judges(one.model)
    other = open_stamps(config["data"]) if config["data"]["name"] else None
    opened: dict[str, StampSet] = {}
    return [score_run(c, other, opened, config, console) for c in chosen]


def score_run(
    chosen: ChosenModel,
    other: StampSet | None,
    opened: dict[str, StampSet],
    config: Mapping[str, Any],
    console: Console,
) -> ScoredRun:
    """Score one model on `other`, or on the stamp set that it was trained on.

    Parameters
    ----------
    chosen : ChosenModel
        The model.
    other : StampSet or None
        Stamp set named by the user; None for the run's own.
    opened : dict
        Stamp sets opened before by their configuration; filled.
    config : mapping
        Keys `subset`, `threshold`, `timing` of `conf/evaluate.yaml`.
    console : Console
        Where progress goes.

    Raises
    ------
    UserError
        If the stamp set is not known, not the one trained on, or the subset is empty.
    """
    model, training_set = chosen.model, chosen.model.provenance.training_set
    if other is not None:
        stamp_set = other
    else:
        if chosen.config is None:
            raise UserError(
                f"runs: {chosen.name} is a file, so its stamp set is not known; "
                "name one with data=…"
            )
        stamp_set = _own_set(chosen, opened)
    own = training_set is not None and training_set.digest == stamp_set.digest
    # The same stamps under other labels: what was held out is what its own labels held out.
    relabelled = (
        training_set is not None
        and not own
        and training_set.stamps_digest == stamp_set.stamps_digest
    )
    subset = config["subset"] or ("test" if own or relabelled else "all")
    rows = np.arange(len(stamp_set))
    if subset != "all":
        split = chosen.config["split"] if (own or relabelled) and chosen.config else None
        if split is None:
            raise UserError(
                f"subset={subset}: {chosen.name} has no split of {stamp_set.path.name}; "
                "use subset=all"
            )
        labels = stamp_set.labels
        if relabelled:
            labels = _own_set(chosen, opened).labels
        rows = make_split(labels, stamp_set.groups, **split)[subset]
        if not len(rows):
            raise UserError(f"subset={subset}: the split of {chosen.name} leaves it empty")
    elif own or relabelled:
        console.print(
            f"note: {chosen.name} is evaluated on all of its own stamp set, training included"
        )
    rows = np.sort(rows)
    note = model.note_on(stamp_set)
    if note:
        console.print(f"note: {chosen.name} {note}")
    started = time.perf_counter()
    p_real = model.score(stamp_set, rows, console)
    elapsed = time.perf_counter() - started
    console.print(
        f"{chosen.name}: {len(rows):,} candidates scored in {elapsed:.1f} s ({engine_of(model)})"
    )
    lacking = None
    if model.inputs.channels:
        lacking = rows_that_lack(stamp_set, rows, model.inputs.channels)
        if lacking.any():
            console.print(
                f"note: {chosen.name} looks at {', '.join(model.inputs.channels)}; "
                f"{lacking.sum():,} of {len(rows):,} candidates lack one of them, and were scored "
                "as if it were empty (column lacking of scores.parquet)"
            )
    timing = None
    if config["timing"]:
        # Batches that are larger than the set, and than the paper's, would tell nobody anything.
        sizes = [size for size in BATCH_SIZES if size <= max(len(rows), _PAPER_BATCH)]
        timing = model.timing(stamp_set, rows[:_TIMED], batch_sizes=sizes, max_seconds=1.5)
    metrics = chosen.metrics or {}
    cost = {
        "train_cpu_hours": metrics.get("cost/train_cpu_hours"),
        "train_wall_s": metrics.get("cost/train_wall_s"),
        "epochs": metrics.get("epochs"),
        "n_train": None if training_set is None else training_set.n_train,
        "parameters": model.n_parameters,
    }
    if timing is not None:
        at = timing.set_index("batch_size").loc[_PAPER_BATCH]
        cost |= {"ms_per_stamp": at["ms_per_stamp"], "ms_per_stamp_mad": at["mad"]}
    result = RunResult(
        name=chosen.name,
        run_id=chosen.run_id,
        inputs=model.inputs.kind,
        model=model.provenance.name,
        data_name=stamp_set.name,
        data_digest=stamp_set.digest,
        subset=subset,
        ids=stamp_set.ids[rows],
        labels=stamp_set.labels[rows],
        p_real=p_real,
        threshold=model.threshold if config["threshold"] is None else config["threshold"],
        history=chosen.history,
        cost={k: v for k, v in cost.items() if v is not None},
        settings=chosen.config or {},
        lacking=lacking,
    )
    return ScoredRun(chosen, result, stamp_set, rows, own and subset == "test", timing)


def _own_set(chosen: ChosenModel, opened: dict[str, StampSet]) -> StampSet:
    """The stamp set that a run was trained on, with the labels of then."""
    assert chosen.config is not None
    key = str(chosen.config["data"])
    if key not in opened:
        opened[key] = open_stamps(chosen.config["data"])
    found = opened[key].digest
    training_set = chosen.model.provenance.training_set
    if training_set is not None and training_set.digest != found:
        raise UserError(
            f"run {chosen.name}: trained on a stamp set with digest {training_set.digest[:12]}, "
            f"the one found has {found[:12]}; restore the data or name other with data=…"
        )
    return opened[key]
