"""The training module: another task overrides its loss, its metrics, its network, and no more."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rb.models.classifier import Classifier
from rb.stamps.inputs import InputSpec

INPUTS = {"channels": ["srch", "tmpl"], "stacking": "depth"}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
STAMP_CNN = {
    "_target_": "rb.models.cnn.StampCNN",
    "convolutions": [{"filters": 2, "kernel": 5, "pool": 8}],
    "dense": [],
}


class Masks(Classifier):
    """Says of each pixel whether it belongs to a source."""

    def configure_network(self) -> nn.Module:
        return nn.Conv2d(self.inputs.shape[0], 1, 3, padding="same")

    def loss(self, output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(output[:, 0], batch[-1])

    def epoch_metrics(self, output: Tensor, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        right = (output[:, 0] > 0) == (batch[-1] > 0.5)
        return {"pixels": right.float().mean((1, 2)).sum()}


class Weighted(Classifier):
    """Real candidates count twice."""

    def loss(self, output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.cross_entropy(output, batch[-1], torch.tensor([2.0, 1.0]))


def fit(classifier: Classifier, x: Tensor, target: Tensor, epochs: int = 1) -> dict[str, float]:
    """Train on batches of unequal length; gives what was logged last."""
    loader = DataLoader(TensorDataset(x, target), batch_size=7)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(classifier, loader, loader)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.fixture
def stamps() -> Tensor:
    return torch.randn(24, 2, 51, 51, generator=torch.Generator().manual_seed(0))


def test_means_are_over_candidates_not_over_batches(stamps):
    labels = torch.arange(24) % 2
    classifier = Classifier(STAMP_CNN, INPUTS, {**SGD, "lr": 0.0})
    logged = fit(classifier, stamps, labels)
    output = classifier.eval()(stamps)
    expected = nn.functional.cross_entropy(output, labels).item()
    assert logged["val/loss"] == pytest.approx(expected, abs=1e-6)
    assert logged["val/acc"] == (output.argmax(1) == labels).float().mean().item()
    assert logged.keys() == {"train/loss", "train/acc", "val/loss", "val/acc"}


def test_another_loss_is_one_method(stamps):
    labels = torch.arange(24) % 2
    plain = fit(Classifier(STAMP_CNN, INPUTS, SGD), stamps, labels)
    weighted = fit(Weighted(STAMP_CNN, INPUTS, SGD), stamps, labels)
    assert weighted["val/loss"] != plain["val/loss"]
    assert weighted.keys() == plain.keys()


def test_a_dense_output_is_a_small_class(stamps):
    sky = (stamps[:, 0] > 0).float()
    masks = Masks({}, INPUTS, SGD)
    logged = fit(masks, stamps, sky, epochs=40)
    assert masks(stamps).shape == (24, 1, *InputSpec(**INPUTS).shape[1:])
    assert logged["val/pixels"] > 0.9
    assert logged.keys() == {"train/loss", "train/pixels", "val/loss", "val/pixels"}


def test_a_file_of_initial_weights_is_not_needed_again(tmp_path):
    torch.save({}, tmp_path / "none.pth")
    description = STAMP_CNN | {"weights": str(tmp_path / "none.pth")}

    class Started(Classifier):
        def configure_network(self) -> nn.Module:
            return nn.Linear(2, 2)

    content: dict = {}
    Started(description, INPUTS, SGD).on_save_checkpoint(content)
    assert content["rb"]["network"] == STAMP_CNN
