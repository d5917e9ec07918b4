"""What a modern recipe adds to a training: turned stamps, smoothed labels, averaged weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.nn import functional as F

from rb.models.classifier import Classifier
from rb.stamps.augment import augment


class ModernClassifier(Classifier):
    """A classifier whose training stamps are augmented and whose labels are smoothed.

    Parameters
    ----------
    augment : str, optional
        How training stamps are changed, see `rb.stamps.augment.augment`; None for not at all.
        What is drawn depends on the seed and the epoch alone.
    label_smoothing : float
        Share of the label that is spread over both classes in the training loss
        (Szegedy et al. 2016, CVPR, 2818).
    **classifier
        What `Classifier` takes.
    """

    def __init__(
        self, augment: str | None = None, label_smoothing: float = 0.0, **classifier: Any
    ) -> None:
        super().__init__(**classifier)
        self.augment = augment
        self.label_smoothing = label_smoothing

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, ...]:
        """Augment a training batch on the device that it was brought to."""
        if not (self.augment and self.training):
            return batch
        x, *side, labels = batch
        turned = augment(x, side[0] if side else None, self.inputs.side)
        return (*(part for part in turned if part is not None), labels)

    def loss(self, output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy, with smoothed labels in training."""
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(output, batch[-1], label_smoothing=smoothing)

    def on_fit_start(self) -> None:
        """Validate stamps as they are: turned eight times, they would cost as much as training."""
        network: Any = self.network
        if hasattr(network, "tta"):
            network.tta = False


class AveragedWeights(WeightAveraging):
    """Validate and keep an exponential moving average of the weights.

    Parameters
    ----------
    decay : float
        Share of the old average that stays after a step; 0.995 averages over some 200 steps.
    """

    def __init__(self, decay: float) -> None:
        def average(old: Tensor, new: Tensor, steps: Tensor | int) -> Tensor:
            if not old.is_floating_point():
                return new
            return torch.lerp(old, new, 1 - averaging(decay, int(steps)))

        super().__init__(avg_fn=average)


def averaging(decay: float, steps: int) -> float:
    """Share of the old average that stays after one step more: at first little, then `decay`.

    So random initial weights are forgotten also where steps are few.
    """
    return min(decay, (1 + steps) / (10 + steps))


def make_classifier(settings: dict[str, Any], **classifier: Any) -> Classifier:
    """The training module that the settings of ``trainer`` ask for."""
    given = {
        key: settings[key]
        for key in ("augment", "label_smoothing")
        if settings.get(key) is not None
    }
    return ModernClassifier(**given, **classifier) if given else Classifier(**classifier)
