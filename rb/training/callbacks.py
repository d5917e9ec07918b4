"""Save points to resume from, and the progress that a person watches."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console

from rb.errors import UserError
from rb.io.progress import bar
from rb.tracking import TrackedRun, TrackingError
from rb.training.cpu_time import cpu_seconds
from rb.training.save_points import put_in_place

_METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
_PAUSE_S = 30.0  # before metrics are offered again to a store that did not answer


class DivergenceStop(Checkpoint):
    """End a training whose loss is no number any more.

    It is called before the callbacks that keep weights, so that those are of good epochs.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the losses of the epoch.

        Raises
        ------
        UserError
            If one is NaN or infinite.
        """
        for key in ("train/loss", "val/loss"):
            loss = float(trainer.callback_metrics[key])
            if not math.isfinite(loss):
                raise UserError(
                    f"{key} is {loss} after epoch {trainer.current_epoch + 1}: training stopped, "
                    "the weights of the epochs before are kept; try a smaller "
                    "trainer.optimizer.lr, and look at the stamps"
                )


class SavePoints(Checkpoint):
    """Write ``last.ckpt`` and the metrics together, every few seconds and at the end.

    A run that was killed is taken up at its last save point; because every epoch has its own
    seeds, it ends as it would have ended undisturbed. Metrics are sent in batches for the
    sake of speed: a transaction per epoch costs as much as an epoch of a small network.

    Parameters
    ----------
    folder : path
        For ``last.ckpt``.
    run : TrackedRun
        Receives the metrics of each epoch.
    console : Console
        Told when the tracking store does not answer. Metrics are kept then, in the save point
        too, and sent when it does.
    every_s : float
        Seconds between save points; 0 saves after every epoch.
    """

    def __init__(self, folder: Path, run: TrackedRun, console: Console, every_s: float) -> None:
        self.folder = folder
        self.run = run
        self.console = console
        self.every_s = every_s
        self.history: list[dict[str, float]] = []
        self.spent = {"cpu_s": 0.0, "wall_s": 0.0}
        self._logged = 0
        self._there: Mapping[str, set[int]] = {}
        self._away_until = 0.0
        self._saved = self._started = time.monotonic()
        self._cpu = cpu_seconds()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks; find out which metrics an earlier attempt has sent."""
        self._saved = self._started = time.monotonic()
        self._cpu = cpu_seconds()
        if self.run.data.metrics:
            self._there = {key: self.run.steps(key) for key in (*_METRICS, "lr")}
        self._offer()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the epoch; save if it is time."""
        row: dict[str, float] = {"epoch": trainer.current_epoch}
        row |= {k: float(trainer.callback_metrics[k]) for k in _METRICS}
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.history.append(row)
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        due = last or time.monotonic() - self._saved >= self.every_s
        if trainer.strategy.broadcast(due):  # the clocks of several processes differ
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        now, cpu = time.monotonic(), cpu_seconds()
        self.spent["wall_s"] += now - self._started
        spent = torch.tensor(cpu - self._cpu, dtype=torch.float64)
        self.spent["cpu_s"] += float(trainer.strategy.reduce(spent, reduce_op="sum"))
        self._started, self._cpu = now, cpu
        new = self.folder / "last.ckpt.new"
        try:
            trainer.save_checkpoint(new)
            if trainer.is_global_zero:
                put_in_place(new, self.folder)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise UserError(f"{self.folder}: no save point can be written ({error})") from error
        self._offer()
        self._saved = time.monotonic()

    def _offer(self) -> None:
        """Send metrics if the store takes them; keep them if not."""
        if time.monotonic() < self._away_until:
            return
        try:
            self.send()
        except TrackingError as error:
            if not self._away_until:
                self.console.print(f"{error}; training goes on, its metrics are kept")
            self._away_until = time.monotonic() + _PAUSE_S
        else:
            if self._away_until:
                self.console.print("the tracking store answers again; nothing was lost")
            self._away_until = 0.0

    def send(self) -> None:
        """Send the metrics that have not been sent."""
        new = self.history[self._logged :]
        rows = [(int(row["epoch"]), row) for row in new]
        self.run.log_rows([(step, self._unsent(step, row)) for step, row in rows])
        self._logged = len(self.history)

    def _unsent(self, step: int, row: Mapping[str, float]) -> dict[str, float]:
        there = self._there
        return {k: v for k, v in row.items() if k != "epoch" and step not in there.get(k, ())}

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint: history and time spent."""
        return {"history": self.history, "spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up history and time spent."""
        self.history = list(state_dict["history"])
        self.spent = dict(state_dict["spent"])


class EpochProgress(Checkpoint):
    """A progress bar over epochs; lines every ten seconds where there is no terminal.

    Lightning calls callbacks of the type `Checkpoint` after the training module has logged
    its epoch, all others before; this one wants to show the numbers of the epoch that ended.
    """

    def __init__(self, name: str, console: Console) -> None:
        self.name = name
        self.console = console
        self._bar = ExitStack()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        self._step = self._bar.enter_context(
            bar(self.console, self.name, trainer.max_epochs, "epochs", trainer.current_epoch)
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the epoch's numbers."""
        m = {k: float(trainer.callback_metrics[k]) for k in _METRICS}
        self._step.at(
            trainer.current_epoch + 1,
            f"loss {m['train/loss']:.4f} acc {m['train/acc']:.4f}"
            f" │ val loss {m['val/loss']:.4f} acc {m['val/acc']:.4f}",
        )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the last numbers."""
        self._bar.close()
        self.console.print(self._step.line(), markup=False)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        self._bar.close()
