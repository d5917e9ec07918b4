"""One training run: from a configuration to a tracked, evaluated, usable model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.config import check_training, config_digest
from rb.console import make_console
from rb.errors import UserError
from rb.io.files import write_whole
from rb.models.contract import Inputs, sees_stamps
from rb.models.forest.scorer import feature_inputs
from rb.models.initial_weights import complete_model
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.inputs import InputSpec
from rb.stamps.splits import SUBSETS, Split, make_split
from rb.tracking import (
    CONFIG_TAG,
    EXPERIMENT_TAG,
    KIND_TAG,
    PROCESS_TAG,
    SAVED_CONFIG_TAG,
    SIZE_TAG,
    STATE_TAG,
    Process,
    is_alive,
    open_tracking,
)
from rb.training.context import TrainingJob, searches_images
from rb.training.ranks import own_console, refuse_several, shared_run
from rb.training.save_points import epochs_in

if TYPE_CHECKING:
    from mlflow.entities import Run

_LOOKED_AT = 256  # training stamps, to see that there is something in them
_CHANGE_ON_RESUME = (
    "run",
    "tracking",
    "paths",
    "trainer.max_epochs",
    "trainer.patience",
    "data.processes",
)


def train(
    config: dict[str, Any],
    name: str | None = None,
    console: Console | None = None,
    more_tags: Mapping[str, str] | None = None,
) -> float:
    """Train the model that `config` describes and track the run.

    Parameters
    ----------
    config : dict
        Resolved configuration, as composed from ``conf/train.yaml``.
    name : str, optional
        Name of the run; by default that of the model.
    console : Console, optional
        Where progress goes.
    more_tags : mapping, optional
        Tags of the run beside its own.

    Returns
    -------
    float
        Best validation accuracy, for sweepers to maximise.
    """
    check_training(config)
    console = own_console(console or make_console())
    digest = config_digest(config)
    config = config | {"model": complete_model(config["model"])}
    # A wrong setting is refused before a set is built.
    fit = _fit_of(config, input_spec(config))
    stamp_set = open_stamps(config["data"])
    inputs = input_spec(config, stamp_set)
    inputs.check(stamp_set)
    split = split_of(stamp_set, config)
    _check_stamps(config, stamp_set, split, inputs)
    tracking = open_tracking(config)
    name = config["name"] or name or config["model"]["name"]
    tags = {
        "inputs": inputs.kind,
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "stacking": inputs.stacking,
        CONFIG_TAG: digest,
    }
    if config.get("experiment"):
        tags |= {EXPERIMENT_TAG: config["experiment"]}
    if config.get("size"):
        tags |= {SIZE_TAG: config["size"]["name"]}
    with shared_run(tracking, name, "training", tags | dict(more_tags or {})) as run:
        console.print(
            f"run {run.run_id} ({name}) in experiment '{config['tracking']['experiment']}'"
        )
        job = TrainingJob(config, stamp_set, split, inputs, run, console, name)
        run.log_config(config, unused=("vary", "trainer") if _is_forest(config) else ("vary",))
        _keep_config(job)
        _log_data(job)
        return fit(job)


def resume(config: dict[str, Any], overrides: list[str], console: Console | None = None) -> float:
    """Go on with the run ``config['run']`` at its last save point, in the same MLflow run.

    Settings come from the run itself; of `overrides` only those that do not change what is
    computed are allowed, and more epochs or patience. A run that was given these is no longer
    the job that its settings describe, so that no sweep takes its result for that.

    Raises
    ------
    UserError
        If there is no such run, it is still going on, it cannot go on, was made from other data,
        or an override would change it.
    """
    console = own_console(console or make_console())
    _check_overrides(overrides)
    tracking = open_tracking(config)
    found = tracking.find(str(config["run"]))
    run_id, label = found.info.run_id, found.info.run_id[:8]
    _check_resumable(found)
    saved = tracking.config_of(found)
    if "trainer" not in saved:
        raise UserError(f"run {label}: its config.yaml is not that of a training run")
    longer = _longer(found, saved, config, overrides, epochs_in(tracking.checkpoints(run_id)))
    if found.data.tags.get(STATE_TAG) == "finished" and not longer:
        best = found.data.metrics.get("best/val_acc", float("nan"))
        console.print(f"run {label} is finished (best val/acc {best:.4f}); nothing to do")
        return best
    saved["trainer"] |= longer
    _use_places_of_now(saved, config, overrides)
    check_training(saved)
    stamp_set = open_stamps(saved["data"])
    inputs = input_spec(saved, stamp_set)
    split = split_of(stamp_set, saved)
    fit = _fit_of(saved, inputs)
    digest = found.data.tags.get("data.digest")
    if digest and digest != stamp_set.digest:
        raise UserError(
            f"run {label} was trained on a stamp set with digest {digest[:12]}, the one found has "
            f"{stamp_set.digest[:12]}; restore the data or start a new run"
        )
    with shared_run(tracking, found.info.run_name, "training", run_id=run_id) as run:
        console.print(f"taking up run {run_id} ({found.info.run_name})")
        job = TrainingJob(saved, stamp_set, split, inputs, run, console, found.info.run_name)
        if longer:
            run.tag({CONFIG_TAG: config_digest(saved | {"resumed_with": longer})})
            run.save_config(saved)
            _keep_config(job)
        if not digest:
            _log_data(job)
        return fit(job)


def _check_stamps(
    config: Mapping[str, Any], stamp_set: StampSet, split: Split, inputs: Inputs
) -> None:
    """Refuse candidates that a network cannot learn from, or be chosen on."""
    if not sees_stamps(inputs) or _is_forest(config):
        return
    for part in ("train", "val"):
        if not len(split[part]):
            raise UserError(
                f"split.{part}: no candidate is left for it; a network learns from the training "
                "part and its best epoch is chosen on the validation part"
            )
    some = np.unique(split.train[np.linspace(0, len(split.train) - 1, _LOOKED_AT).astype(int)])
    x = inputs.prepare(stamp_set.read(some, inputs))
    if float(x.max()) == float(x.min()):
        raise UserError(
            f"{stamp_set.path}: there is nothing to see in {', '.join(inputs.channels)} of the "
            f"training stamps ({len(some)} looked at): constant, or without a number"
        )


def _check_overrides(overrides: list[str]) -> None:
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        if not any(key == k or key.startswith(k + ".") for k in _CHANGE_ON_RESUME):
            raise UserError(
                f"{key} cannot be changed for a run that is taken up; "
                f"allowed with run=…: {', '.join(_CHANGE_ON_RESUME[1:])}"
            )


def _check_resumable(run: Run) -> None:
    label, tags = run.info.run_id[:8], run.data.tags
    if tags.get(KIND_TAG) != "training":
        raise UserError(f"run {label} is not a training run; there is nothing to take up")
    if run.info.status == "RUNNING" and is_alive(tags.get(PROCESS_TAG)):
        process = Process.parse(tags[PROCESS_TAG])
        raise UserError(f"run {label} is still going on (process {process}); stop it first")
    if SAVED_CONFIG_TAG not in tags:
        raise UserError(
            f"run {label} ended before its settings were recorded, so there is nothing to take "
            "up; start a new one"
        )


def _longer(
    run: Run,
    saved: Mapping[str, Any],
    config: Mapping[str, Any],
    overrides: list[str],
    trained: int,
) -> dict[str, Any]:
    """What the user changes of the length of a run that has `trained` epochs behind it.

    Empty if nothing changes, or a finished run has those epochs already.
    """
    label, before = run.info.run_id[:8], saved["trainer"]
    trained = trained or int(run.data.metrics.get("epochs", 0))
    changed = {
        key: config["trainer"][key]
        for key in ("max_epochs", "patience")
        if _set_by(overrides, f"trainer.{key}") and config["trainer"][key] != before[key]
    }
    epochs, patience = ((before | changed)[key] for key in ("max_epochs", "patience"))
    if epochs < trained:
        raise UserError(
            f"trainer.max_epochs is {epochs}; run {label} was trained for {trained} epochs, give "
            "more, or train another run for fewer"
        )
    if run.data.tags.get(STATE_TAG) != "finished" or _is_forest(saved):
        return {} if _is_forest(saved) else changed
    if epochs == trained:
        return {}
    old = before["patience"]
    stopped_early = old is not None and trained < before["max_epochs"]
    if changed and stopped_early and patience is not None and patience <= old:
        raise UserError(
            f"trainer.patience is {patience}; run {label} was stopped after {trained} epochs by a "
            f"patience of {old}, give more"
        )
    return changed


def _use_places_of_now(
    saved: dict[str, Any], config: Mapping[str, Any], overrides: list[str]
) -> None:
    """Where things are, and how many processes read them, is not the run's to say."""
    data = saved["data"]
    if data.get("cache") and data["cache"] == saved["paths"]["cache"]:
        data["cache"] = config["paths"]["cache"]
    if _set_by(overrides, "data.processes"):
        data["processes"] = config["data"]["processes"]
    saved["tracking"], saved["paths"] = config["tracking"], config["paths"]


def _fit_of(config: Mapping[str, Any], inputs: Inputs) -> Callable[[TrainingJob], float]:
    """What trains a model of this description; refuses what it could not be trained with."""
    if _is_forest(config):
        from rb.training.forest import fit_forest

        refuse_several(f"model={config['model']['name']}")
        return fit_forest
    from rb.training.network import check_buildable, fit_network

    assert isinstance(inputs, InputSpec)
    check_buildable(config, inputs)
    return fit_network


def _is_forest(config: Mapping[str, Any]) -> bool:
    return bool(config["model"].get("learner"))


def input_spec(config: Mapping[str, Any], stamp_set: StampSet | None = None) -> Inputs:
    """What the configured network, or forest, is fed; sizes are those of the stamp set."""
    if _is_forest(config):
        return feature_inputs(config["model"])
    return InputSpec.from_config(config["model"]["inputs"], stamp_set)


def split_of(stamp_set: StampSet, config: Mapping[str, Any]) -> Split:
    """The split that the configuration asks for."""
    return make_split(
        stamp_set.labels,
        stamp_set.groups,
        **config["split"],
        classes=not searches_images(config),
    )


def _set_by(overrides: list[str], key: str) -> bool:
    return any(o.lstrip("+").split("=", 1)[0] == key for o in overrides)


def _keep_config(job: TrainingJob) -> None:
    """A copy beside the checkpoints, for the day when the one in the store is damaged."""
    import yaml

    text = yaml.safe_dump(dict(job.config), sort_keys=False)
    write_whole(job.folder / "config.yaml", text.encode(), "the settings")


def _log_data(job: TrainingJob) -> None:
    run, stamp_set, split = job.run, job.stamp_set, job.split
    run.log_params({f"n_{s}": len(split[s]) for s in SUBSETS})
    run.log_dataset(stamp_set.name, stamp_set.digest, str(stamp_set.path), "training")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "split.parquet"
        subsets = np.repeat(SUBSETS, [len(split[s]) for s in SUBSETS])
        ids = np.concatenate([stamp_set.ids[split[s]] for s in SUBSETS])
        pd.DataFrame({"id": ids, "subset": subsets}).to_parquet(file, index=False)
        run.log_file(file)
    labels = stamp_set.meta.get("labels")
    if labels:
        run.log_json(labels, "labels.json")
        run.log_file(labels["table"], "labels")
        run.tag({"labels.digest": labels["digest"]})
    # Last, because a run with this tag has all of its data facts.
    run.tag({"data.digest": stamp_set.digest, "split.digest": split.digest(stamp_set.ids)})
