"""Train a network with Lightning: epochs, save points, and what the run is told at the end."""

from __future__ import annotations

import difflib
import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from rb.errors import UserError
from rb.io.memory import keep_memory
from rb.models.build import build_network, build_optimizer
from rb.models.classifier import Classifier
from rb.models.files import load_file
from rb.models.initial_weights import load_weights
from rb.models.pretrained import published_file
from rb.stamps.datamodule import StampDataModule
from rb.stamps.inputs import InputSpec
from rb.training.callbacks import DivergenceStop, EpochProgress, SavePoints
from rb.training.context import TrainingJob, searches_images
from rb.training.ranks import n_ranks, rank, trainer_arguments
from rb.training.recipe import AveragedWeights, make_classifier
from rb.training.save_points import usable

# Arguments of the Trainer that have a setting of their own, or are no matter of choice here.
_OWN = {
    "max_epochs", "accelerator", "devices", "num_nodes", "strategy", "precision", "logger",
    "callbacks", "default_root_dir", "enable_progress_bar", "enable_model_summary",
    "enable_checkpointing", "num_sanity_val_steps", "use_distributed_sampler",
}  # fmt: skip
# These would leave an epoch without its validation, or the last one without a save point.
_HARMFUL = {
    "fast_dev_run", "max_steps", "max_time", "check_val_every_n_epoch", "limit_val_batches",
    "overfit_batches", "barebones",
}  # fmt: skip


def make_trainer(settings: Mapping[str, Any], **more: Any) -> L.Trainer:
    """Lightning's Trainer for the settings `trainer`.

    Parameters
    ----------
    settings : mapping
        The group `trainer`; what stands in `lightning` is passed on.
    **more
        Further arguments of the Trainer.

    Raises
    ------
    UserError
        If an argument does not exist or is not the user's to give, or Lightning refuses one.
    """
    _quieten_lightning()
    given = dict(settings.get("lightning") or {})
    known = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    for key in given:
        if key in _OWN:
            own = f"give trainer.{key}" if key in settings else "it is not a matter of choice here"
            raise UserError(f"trainer.lightning.{key} is set by the training itself; {own}")
        if key in _HARMFUL:
            raise UserError(
                f"trainer.lightning.{key} cannot be given: each epoch has its validation and save "
                "point here; use trainer.max_epochs for less work"
            )
        if key not in known:
            close = difflib.get_close_matches(key, known - _OWN - _HARMFUL, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise UserError(f"trainer.lightning.{key}: Lightning's Trainer has no such one{hint}")
    try:
        return L.Trainer(
            max_epochs=settings["max_epochs"],
            accelerator=settings["accelerator"],
            precision=settings["precision"],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **trainer_arguments(),
            **given,
            **more,
        )
    except Exception as error:  # Lightning has no kind of its own for arguments it refuses
        told = ", ".join(f"{k}={v}" for k, v in given.items())
        raise UserError(
            f"trainer.accelerator={settings['accelerator']}, precision={settings['precision']}"
            f"{', lightning: ' + told if told else ''}: {' '.join(str(error).split())}"
        ) from error


def fit_network(job: TrainingJob) -> float:
    """Train from the last save point, or the start, and record the result.

    Parameters
    ----------
    job : TrainingJob
        What to train. Its folder may hold save points of an earlier attempt.

    Returns
    -------
    float
        Best validation accuracy.

    Raises
    ------
    UserError
        If the loss is no number any more, or a save point cannot be written.
    """
    keep_memory()
    settings, folder = job.config["trainer"], job.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = _data_module(job)(
        job.stamp_set,
        job.split,
        job.inputs,
        batch_size=settings["batch_size"],
        seed=job.config["seed"],
        memory=int(settings["memory_gb"] * 2**30),
        share=(rank(), n_ranks()),
    )
    classifier = _classifier(job)
    save_points = SavePoints(folder, job.run, job.console, settings["save_every_s"])
    trainer = make_trainer(
        settings, callbacks=_callbacks(job, save_points), default_root_dir=folder
    )
    parameters = sum(p.numel() for p in classifier.parameters())
    job.run.log_params({"n_parameters": parameters})
    job.console.print(
        f"{job.name}: {parameters:,} parameters, {len(job.split.train):,} training and "
        f"{len(job.split.val):,} validation stamps"
    )
    last, damaged = usable(folder)
    if damaged:
        start = "the one before" if last else "the first epoch"
        job.console.print(f"{folder}: {', '.join(damaged)} damaged; going on from {start}")
    if job.config["model"].get("init_from") and last is None:
        load_weights(classifier.network, job.config["model"]["init_from"])
    # A run that is resumed after its last epoch has nothing to fit, but may lack its results.
    with _compiled(classifier.network, settings["compile"]):
        trainer.fit(
            classifier,
            datamodule=data,
            ckpt_path=str(last) if last else None,
            weights_only=True,
        )
    if not trainer.is_global_zero:
        return max(row["val/acc"] for row in save_points.history)
    return _record(job, save_points, folder / "best.ckpt")


@contextmanager
def _compiled(network: torch.nn.Module, mode: str | None) -> Iterator[None]:
    """Compile the network in place, if that is asked for; the names of its weights stay."""
    if mode is None:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    # What it has to leave to Python is no matter of the user's: dropout's own generator on a CPU.
    torch._logging.set_logs(all=logging.ERROR)
    network.compile(mode=mode)
    try:
        yield
    except TorchDynamoException as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"trainer.compile={mode}: torch cannot compile this network here ({why}); leave it out"
        ) from error


def check_buildable(config: Mapping[str, Any], inputs: InputSpec) -> None:
    """Refuse what could not be trained before its candidates are made, which may take hours.

    A network is built, and its weights to start with are looked at, where the size of its stamps
    is known without them.

    Raises
    ------
    UserError
        What the training itself would raise.
    """
    make_trainer(config["trainer"])
    model, data = config["model"], config["data"]
    size = data.get("stamp_size") or (data.get("detection") or {}).get("stamp_size")
    inputs = replace(inputs, size=(model["inputs"] or {}).get("size") or size or inputs.size)
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    # PSFs have the size that the source gives them.
    if size and not searches_images(config) and not ("psf" in inputs.side and not inputs.psf_size):
        with torch.random.fork_rng(devices=[]):
            network = build_network(model["network"], inputs)
        parameters = list(network.parameters())
        if model.get("init_from"):
            load_weights(network, model["init_from"])
    elif (file := model.get("init_from")) and not Path(published_file(file) or file).is_file():
        raise UserError(f"model.init_from: {file} is no file, and no network of the package")
    build_optimizer(config["trainer"]["optimizer"], None, parameters)


def _data_module(job: TrainingJob) -> type[StampDataModule]:
    if not searches_images(job.config):
        return StampDataModule
    from rb.scan.task import TileDataModule

    return TileDataModule


def _classifier(job: TrainingJob) -> Classifier:
    """The network with its loss and optimiser, and the facts that its checkpoint carries."""
    settings = job.config["trainer"]
    make = make_classifier
    if searches_images(job.config):
        from rb.scan.task import make_dense as make
    return make(
        settings,
        network=job.config["model"]["network"],
        inputs=job.inputs.to_dict(),
        optimizer=settings["optimizer"],
        scheduler=settings["scheduler"],
        seed=job.config["seed"],
        provenance=job.provenance,
    )


def _callbacks(job: TrainingJob, save_points: SavePoints) -> list[Callback]:
    """In the order in which they are called at the end of an epoch."""
    best = ModelCheckpoint(
        job.folder,
        "best",
        monitor="val/acc",
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks: list[Callback] = [
        DivergenceStop(),
        EpochProgress(job.name, job.console),
        best,
        save_points,
    ]
    patience = job.config["trainer"]["patience"]
    if patience:
        callbacks.insert(0, EarlyStopping("val/loss", patience=patience, check_finite=False))
    if job.config["trainer"].get("ema"):
        callbacks.insert(0, AveragedWeights(job.config["trainer"]["ema"]))
    return callbacks


def _record(job: TrainingJob, save_points: SavePoints, checkpoint: Path) -> float:
    """Give the run its summary, best weights, figures, and a model to use."""
    from rb.evaluation.tracked import log_classification
    from rb.figures.classification.curves import curves_figure

    run, name, rows = job.run, job.name, job.split.val
    save_points.send()
    history = pd.DataFrame(save_points.history)
    model = load_file(checkpoint)
    if searches_images(job.config):
        from rb.scan.calibration import calibrate_checkpoint

        calibrate_checkpoint(checkpoint, model.network, job.stamp_set, rows, job.inputs)
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
    if not searches_images(job.config):
        # Of the best epoch on the validation set; the test set stays shut.
        labels, p_real = job.stamp_set.labels[rows], model.score(job.stamp_set, rows)
        log_classification(run, "val", name, labels, p_real, model.threshold)
        run.log_model(checkpoint)
    job.console.print(
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
    # The cycle is one of epochs, so that a run goes on at a save point as if it had not stopped.
    warnings.filterwarnings("ignore", ".*scheduler is using 'interval': 'epoch'.*")
    warnings.filterwarnings("ignore", ".*overridden `on_after_batch_transfer`.*")
    # Of several processes: sums are added up here, and what DDP copies is no matter of choice.
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")
    warnings.filterwarnings("ignore", "(?s).*Grad strides do not match bucket view strides.*")
    warnings.filterwarnings("ignore", ".*`isinstance\\(treespec, LeafSpec\\)`.*")
    torch.set_float32_matmul_precision("high")
