"""One training run: from a configuration to a tracked, evaluated, usable network."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from rb.config import check_training, config_digest
from rb.console import make_console
from rb.errors import UserError
from rb.models.checkpoint import load_model
from rb.models.forest.scorer import FeatureInputs, feature_inputs
from rb.models.initial_weights import complete_model, load_weights
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.datamodule import StampDataModule
from rb.stamps.scaling import InputSpec
from rb.stamps.splits import SUBSETS, Split, make_split
from rb.tracking import CONFIG_TAG, EXPERIMENT_TAG, SIZE_TAG, TrackedRun, Tracking, open_tracking
from rb.training.memory import keep_memory

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
    """Train the network that `config` describes and track the run.

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
    console = console or make_console()
    digest = config_digest(config)
    config = config | {"model": complete_model(config["model"])}
    inputs = input_spec(config)
    stamp_set = open_stamps(config["data"])
    inputs.check(stamp_set.channels, f"model={config['model']['name']}")
    split = split_of(stamp_set, config)
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
    with tracking.run(name, "training", tags | dict(more_tags or {})) as run:
        console.print(
            f"run {run.run_id} ({name}) in experiment '{config['tracking']['experiment']}'"
        )
        # A forest has no batches, epochs or optimiser.
        run.log_config(config, unused="trainer" if isinstance(inputs, FeatureInputs) else None)
        _log_data(run, stamp_set, split)
        return _fit(config, stamp_set, split, inputs, run, console, name)


def resume(config: dict[str, Any], overrides: list[str], console: Console | None = None) -> float:
    """Take up the run ``config['run']`` at its last save point, in the same MLflow run.

    Settings come from the run itself; of `overrides` only those that do not change what is
    computed are allowed.

    Raises
    ------
    UserError
        If there is no such run, it is still going on, is finished, was made from other data,
        or an override would change it.
    """
    from rb.tracking import PROCESS_TAG, STATE_TAG, is_alive

    console = console or make_console()
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        if not any(key == k or key.startswith(k + ".") for k in _CHANGE_ON_RESUME):
            raise UserError(
                f"{key} cannot be changed for a run that is taken up; "
                f"allowed with run=…: {', '.join(_CHANGE_ON_RESUME[1:])}"
            )
    tracking = open_tracking(config)
    found = tracking.find(str(config["run"]))
    run_id, label = found.info.run_id, found.info.run_id[:8]
    if found.data.tags.get("rb.kind") != "training":
        raise UserError(f"run {label} is not a training run; there is nothing to take up")
    if found.info.status == "RUNNING" and is_alive(found.data.tags.get(PROCESS_TAG)):
        raise UserError(
            f"run {label} is still going on (process {found.data.tags[PROCESS_TAG]}); stop it first"
        )
    saved = _saved_config(tracking, run_id)
    longer = _set_by(overrides, "trainer.max_epochs") or _set_by(overrides, "trainer.patience")
    if found.data.tags.get(STATE_TAG) == "finished" and not longer:
        best = found.data.metrics.get("best/val_acc", float("nan"))
        console.print(f"run {label} is finished (best val/acc {best:.4f}); nothing to do")
        return best
    for key in ("max_epochs", "patience"):
        if _set_by(overrides, f"trainer.{key}"):
            saved["trainer"][key] = config["trainer"][key]
    saved["tracking"], saved["paths"] = config["tracking"], config["paths"]
    if _set_by(overrides, "data.processes"):
        saved["data"]["processes"] = config["data"]["processes"]
    check_training(saved)
    inputs = input_spec(saved)
    stamp_set = open_stamps(saved["data"])
    split = split_of(stamp_set, saved)
    digest = found.data.tags.get("data.digest")
    if digest and digest != stamp_set.digest:
        raise UserError(
            f"run {label} was trained on a stamp set with digest {digest[:12]}, the one found has "
            f"{stamp_set.digest[:12]}; restore the data or start a new run"
        )
    with tracking.run(found.info.run_name, "training", run_id=run_id) as run:
        console.print(f"taking up run {run_id} ({found.info.run_name})")
        if longer:
            run.tag({CONFIG_TAG: config_digest(saved)})
        if not digest:
            _log_data(run, stamp_set, split)
        return _fit(saved, stamp_set, split, inputs, run, console, found.info.run_name)


def input_spec(config: Mapping[str, Any]) -> InputSpec | FeatureInputs:
    """What the configured network, or forest, is fed."""
    if config["model"].get("learner"):
        return feature_inputs(config["model"])
    inputs = config["model"]["inputs"]
    unknown = set(inputs) - {"channels", "stacking", "scaling"}
    if unknown:
        raise UserError(f"model.inputs.{sorted(unknown)[0]}: there is no such setting")
    return InputSpec(**inputs)


def split_of(stamp_set: StampSet, config: Mapping[str, Any]) -> Split:
    """The split that the configuration asks for."""
    return make_split(stamp_set.labels, stamp_set.groups, **config["split"])


def _saved_config(tracking: Tracking, run_id: str) -> dict[str, Any]:
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        file = tracking.artifact(run_id, "config.yaml", folder)
        saved = yaml.safe_load(file.read_text())
    if not isinstance(saved, dict) or "trainer" not in saved:
        raise UserError(f"run {run_id[:8]}: its config.yaml is not that of a training run")
    return saved


def _set_by(overrides: list[str], key: str) -> bool:
    return any(o.lstrip("+").split("=", 1)[0] == key for o in overrides)


def _log_data(run: TrackedRun, stamp_set: StampSet, split: Split) -> None:
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


def _fit(
    config: dict[str, Any],
    stamp_set: StampSet,
    split: Split,
    inputs: InputSpec | FeatureInputs,
    run: TrackedRun,
    console: Console,
    name: str,
) -> float:
    if isinstance(inputs, FeatureInputs):
        from rb.training.forest import fit_forest

        return fit_forest(config, stamp_set, split, run, console, name)
    import lightning as L
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

    from rb.models.classifier import Classifier
    from rb.training.callbacks import EpochProgress, SavePoints

    _quieten_lightning()
    keep_memory()
    settings = config["trainer"]
    folder = run.tracking.checkpoints(run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    data = StampDataModule(
        stamp_set,
        split,
        inputs,
        batch_size=settings["batch_size"],
        seed=config["seed"],
        memory=int(settings["memory_gb"] * 2**30),
    )
    classifier = Classifier(
        network=config["model"]["network"],
        inputs=inputs.to_dict(),
        optimizer=settings["optimizer"],
        scheduler=settings["scheduler"],
        seed=config["seed"],
        package={
            "name": config["model"]["name"],
            "threshold": 0.5,
            "run": run.run_id,
            "training_set": {
                "name": stamp_set.name,
                "source": stamp_set.meta["source"],
                "digest": stamp_set.digest,
                "stamps_digest": stamp_set.stamps_digest,
                "split_digest": split.digest(stamp_set.ids),
                "n_train": len(split.train),
            },
        },
    )
    save_points = SavePoints(folder, run, settings["save_every_s"])
    best = ModelCheckpoint(
        folder,
        "best",
        monitor="val/acc",
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks: list[Callback] = [EpochProgress(name, console), best, save_points]
    if settings["patience"]:
        callbacks.insert(0, EarlyStopping("val/loss", patience=settings["patience"], mode="min"))
    trainer = L.Trainer(
        max_epochs=settings["max_epochs"],
        accelerator=settings["accelerator"],
        devices=1,
        precision=settings["precision"],
        logger=False,
        callbacks=callbacks,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    parameters = sum(p.numel() for p in classifier.parameters())
    run.log_params({"n_parameters": parameters})
    console.print(
        f"{name}: {parameters:,} parameters, {len(split.train):,} training and "
        f"{len(split.val):,} validation stamps"
    )
    last = folder / "last.ckpt"
    if config["model"].get("init_from") and not last.exists():
        load_weights(classifier.network, config["model"]["init_from"])
    trainer.fit(
        classifier,
        datamodule=data,
        ckpt_path=str(last) if last.exists() else None,
        weights_only=True,
    )
    # A run that is taken up after its last epoch has nothing to fit, but may lack its results.
    return _finish(config, stamp_set, split, run, save_points, folder / "best.ckpt", console, name)


def _finish(
    config: dict[str, Any],
    stamp_set: StampSet,
    split: Split,
    run: TrackedRun,
    save_points: Any,
    checkpoint: Path,
    console: Console,
    name: str,
) -> float:
    from rb.evaluation.tracked import log_classification
    from rb.figures.classification.curves import curves_figure

    history = pd.DataFrame(save_points.history)
    model = load_model(checkpoint)
    top = history.loc[history["val/acc"].idxmax()]
    run.log_metrics(
        {
            "best/val_acc": top["val/acc"],
            "best/epoch": top["epoch"],
            "epochs": len(history),
            "cost/train_cpu_hours": save_points.spent["cpu_s"] / 3600,
            "cost/train_wall_s": save_points.spent["wall_s"],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "history.csv"
        history.to_csv(file, index=False)
        run.log_file(file)
    run.log_file(checkpoint, "checkpoint")
    run.log_figure(curves_figure({name: history}), "figures/curves")
    # Of the best epoch on the validation set; the test set stays shut.
    labels, p_real = stamp_set.labels[split.val], model.score(stamp_set, split.val)
    log_classification(run, "val", name, labels, p_real, model.threshold)
    run.log_model(checkpoint)
    console.print(
        f"{name}: best val/acc {top['val/acc']:.4f} in epoch {int(top['epoch']) + 1} of "
        f"{len(history)}, {save_points.spent['wall_s']:.0f} s"
    )
    return float(top["val/acc"])


def _quieten_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # What these say is meant for data loaders with worker processes, which we do not use,
    # and for folders that a resumed run is supposed to find filled.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*The dirpath has changed.*")
    warnings.filterwarnings("ignore", ".*`isinstance\\(treespec, LeafSpec\\)`.*")
    torch.set_float32_matmul_precision("high")
