"""The training module around a network: loss, optimiser, metrics, what a checkpoint carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rb.models.build import build_network, build_optimizer
from rb.models.contract import Provenance
from rb.models.files import PACKAGE_FORMAT
from rb.stamps.datamodule import epoch_seed
from rb.stamps.inputs import InputSpec


class Classifier(L.LightningModule):
    """A network that is trained to tell real from bogus (paper, Table 2).

    Another task overrides what differs: `configure_network`, `loss`, `epoch_metrics`.

    Parameters
    ----------
    network : mapping
        Description of the network: `_target_` and its arguments. `weights`, a file that some
        networks start from, is used once and not kept in checkpoints.
    inputs : mapping
        Arguments of `InputSpec`.
    optimizer : mapping
        Description of the optimiser: `_target_` (of `torch.optim`) and its arguments.
    scheduler : mapping, optional
        Description of a learning-rate scheduler of `torch.optim.lr_scheduler`, stepped once
        an epoch.
    seed : int
        Fixes the initial weights and, with the epoch, dropout.
    threshold : float
        Of the model that a checkpoint holds.
    provenance : Provenance, optional
        Where it comes from, for checkpoints.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        inputs: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any] | None = None,
        seed: int = 1,
        threshold: float = 0.5,
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__()
        self.inputs = InputSpec(**inputs)
        self.description = dict(network)
        self.seed = seed
        self.threshold = threshold
        self.provenance = provenance or Provenance("unnamed")
        self._optimizer = dict(optimizer)
        self._scheduler = dict(scheduler) if scheduler else None
        torch.manual_seed(seed)
        self.network = self.configure_network()
        self._sums: dict[str, dict[str, Tensor]] = {}

    def configure_network(self) -> nn.Module:
        """Build the network; random numbers are already seeded."""
        return build_network(self.description, self.inputs)

    def loss(self, output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean loss of a batch: cross-entropy.

        Parameters
        ----------
        output : Tensor
            What the network says of the batch, here logits (N, 2).
        batch : tuple of Tensor
            As the data module gives it: what the network is fed, and last the labels (N,).
        """
        return F.cross_entropy(output, batch[-1])

    def epoch_metrics(self, output: Tensor, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Sums over a batch, logged as means over an epoch: `acc`, the accuracy."""
        return {"acc": (output.argmax(1) == batch[-1]).sum()}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Output of the network, here logits (N, 2) of prepared stamps."""
        return self.network(*inputs)

    def configure_optimizers(self) -> Any:
        """Build the optimiser, and the scheduler if there is one, from their descriptions."""
        return build_optimizer(self._optimizer, self._scheduler, self.network.parameters())

    def on_train_epoch_start(self) -> None:
        """Start each epoch's dropout from its own seed, so that a resumed run repeats it."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch, self.global_rank))
        self._sums["train"] = {}

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the previous epoch."""
        self._sums["val"] = {}

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Loss of a batch."""
        return self._step("train", batch)

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Loss of a batch, without dropout."""
        return self._step("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log validation loss and metrics."""
        self._log("val")

    def on_train_epoch_end(self) -> None:
        """Log training loss and metrics, as Keras does: over the epoch, with dropout on."""
        self._log("train")

    def _step(self, stage: str, batch: tuple[Tensor, ...]) -> Tensor:
        output = self.network(*batch[:-1])
        loss = self.loss(output, batch)
        # Sums stay on the device and are read once an epoch: reading them every step, or copying
        # a number there, would make the host wait.
        n = len(batch[-1])
        found = {"loss": loss.detach().double() * n, "n": loss.new_full((), n)}
        found |= self.epoch_metrics(output.detach(), batch)
        sums = self._sums[stage]
        for name, value in found.items():
            sums[name] = sums[name] + value.double() if name in sums else value.double()
        return loss

    def _log(self, stage: str) -> None:
        total = self.trainer.strategy.reduce  # over the processes, if there are several
        sums = {n: total(v, reduce_op="sum").item() for n, v in self._sums[stage].items()}
        n = max(sums.pop("n", 0), 1)
        self.log_dict({f"{stage}/{name}": value / n for name, value in sums.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a network needs to be used again, as primitives."""
        kept = {key: value for key, value in self.description.items() if key != "weights"}
        checkpoint["rb"] = {
            "format": PACKAGE_FORMAT,
            "network": _primitives(kept),
            "inputs": self.inputs.to_dict(),
            "threshold": self.threshold,
            "provenance": self.provenance.to_dict(),
        }


def _primitives(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _primitives(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_primitives(v) for v in value]
    return value
