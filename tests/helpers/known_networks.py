"""Networks whose attributions are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rb.explain.attribution import Explainer
from rb.explain.settings import AttributionSettings
from rb.models.classifier import Classifier
from rb.models.cnn import StampCNN
from rb.models.contract import Provenance
from rb.stamps.inputs import InputSpec

RAW = {"diff": "raw", "srch": "raw", "tmpl": "raw"}
CONVOLUTIONS = [{"filters": 3, "kernel": 5, "pool": 4, "dropout": 0.4}]


def weights(channels: int = 3, seed: int = 0) -> Tensor:
    """Weights of two classes by panel, (2, C, 51, 51)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, 51, 51, generator=generator) / 100


class LinearNetwork(nn.Module):
    """Logits that are weighted sums of pixels, for stamps side by side or in depth."""

    def __init__(self, by_panel: Tensor, stacking: str) -> None:
        super().__init__()
        if stacking == "horizontal":
            by_panel = torch.cat(by_panel.unbind(1), -1)
        self.linear = nn.Linear(by_panel[0].numel(), 2)
        with torch.no_grad():
            self.linear.weight.copy_(by_panel.reshape(2, -1))
            self.linear.bias.copy_(torch.tensor([0.1, -0.2]))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


def linear(
    by_panel: Tensor | None = None,
    stacking: str = "horizontal",
    channels: tuple[str, ...] = ("diff", "srch", "tmpl"),
    **settings: object,
) -> Explainer:
    inputs = InputSpec(channels=channels, stacking=stacking, scaling=RAW)
    by_panel = weights(len(channels)) if by_panel is None else by_panel
    network = LinearNetwork(by_panel, stacking).eval()
    return Explainer(network, inputs, AttributionSettings(**settings))  # type: ignore[arg-type]


def convolutional(stacking: str = "horizontal", seed: int = 0, **settings: object) -> Explainer:
    torch.manual_seed(seed)
    inputs = InputSpec(stacking=stacking)
    network = StampCNN(inputs.shape, CONVOLUTIONS, [8]).eval()
    return Explainer(network, inputs, AttributionSettings(**settings))  # type: ignore[arg-type]


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Stamps (n, 3, 51, 51) of nothing but noise."""
    return np.random.default_rng(seed).normal(0, 1, (n, 3, 51, 51)).astype(np.float32)


def checkpoint(path: Path, channels: tuple[str, ...], seed: int = 3) -> Path:
    """A checkpoint of an untrained network, as `train.py` writes it."""
    network = {"_target_": "rb.models.cnn.StampCNN", "convolutions": CONVOLUTIONS, "dense": [16]}
    classifier = Classifier(
        network,
        {"channels": list(channels)},
        {"_target_": "torch.optim.SGD"},
        seed=seed,
        provenance=Provenance(path.stem),
    )
    content = {"state_dict": classifier.state_dict()}
    classifier.on_save_checkpoint(content)
    torch.save(content, path)
    return path
