"""The training module around a network: loss, optimiser, metrics, what a checkpoint carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rb.models.build import build_network, build_optimizer
from rb.stamps.datamodule import epoch_seed
from rb.stamps.inputs import InputSpec
from rb.stamps.stampset import REAL

PACKAGE_FORMAT = 1
LABELS = "0 real, 1 bogus; positive = real; p_real = softmax[:, 0]"


class Classifier(L.LightningModule):
    """A network that is trained to tell real from bogus (paper, Table 2).

    Parameters
    ----------
    network : mapping
        Description of the network: ``_target_`` and its arguments.
    inputs : mapping
        Arguments of `InputSpec`.
    optimizer : mapping
        Description of the optimiser: ``_target_`` (of `torch.optim`) and its arguments.
    scheduler : mapping, optional
        Description of a learning-rate scheduler of `torch.optim.lr_scheduler`, stepped once
        an epoch.
    seed : int
        Fixes the initial weights and, with the epoch, dropout.
    package : mapping, optional
        Facts that travel with the weights: name, training set, split, threshold.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        inputs: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any] | None = None,
        seed: int = 1,
        package: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.inputs = InputSpec(**inputs)
        self.seed = seed
        self._network_config = dict(network)
        self._optimizer = dict(optimizer)
        self._scheduler = dict(scheduler) if scheduler else None
        self._package = dict(package or {})
        torch.manual_seed(seed)
        self.network: nn.Module = build_network(network, self.inputs)
        self._sums = {stage: torch.zeros(3, dtype=torch.float64) for stage in ("train", "val")}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits (N, 2) of prepared stamps, with side information if the network takes any."""
        return self.network(*inputs)

    def configure_optimizers(self) -> Any:
        """Build the optimiser, and the scheduler if there is one, from their descriptions."""
        return build_optimizer(self._optimizer, self._scheduler, self.network.parameters())

    def on_train_epoch_start(self) -> None:
        """Start each epoch's dropout from its own seed, so that a resumed run repeats it."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch))
        self._sums["train"] = torch.zeros(3, dtype=torch.float64, device=self.device)

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the previous epoch."""
        self._sums["val"] = torch.zeros(3, dtype=torch.float64, device=self.device)

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Cross-entropy of a batch."""
        return self._step("train", batch)

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Cross-entropy of a batch, without dropout."""
        return self._step("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log validation loss and accuracy."""
        self._log("val")

    def on_train_epoch_end(self) -> None:
        """Log training loss and accuracy, as Keras does: over the epoch, with dropout on."""
        self._log("train")

    def _step(self, stage: str, batch: tuple[Tensor, ...]) -> Tensor:
        *inputs, labels = batch
        logits = self.network(*inputs)
        loss = F.cross_entropy(logits, labels)
        # Sums stay on the device and are read once an epoch: reading them every step would
        # make the host wait.
        n = len(labels)
        correct = (logits.detach().argmax(1) == labels).sum()
        self._sums[stage] += torch.stack(
            [loss.detach().double() * n, correct.double(), correct.new_tensor(n).double()]
        )
        return loss

    def _log(self, stage: str) -> None:
        loss, correct, n = self._sums[stage].tolist()
        self.log_dict({f"{stage}/loss": loss / max(n, 1), f"{stage}/acc": correct / max(n, 1)})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a network needs to be used again, as primitives."""
        checkpoint["rb"] = {
            "format": PACKAGE_FORMAT,
            "network": _primitives(self._network_config),
            "inputs": self.inputs.to_dict(),
            "labels": LABELS,
            "positive_class": REAL,
            **_primitives(self._package),
        }


def _primitives(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _primitives(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_primitives(v) for v in value]
    return value
