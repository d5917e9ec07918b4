"""The modern recipe: what it does to batches and losses, and that a stopped run repeats it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch
from command_lines import Started, run
from composing import composed
from toys import write_set

from rb.config import check_training
from rb.errors import UserError
from rb.models.files import load_file
from rb.stamps import StampSet
from rb.training.recipe import ModernClassifier, averaging, make_classifier


def classifier(**settings) -> ModernClassifier:
    config = composed("train", "model=nodia_modern", "trainer=modern")
    made = make_classifier(
        config["trainer"] | settings,
        network=config["model"]["network"],
        inputs=config["model"]["inputs"],
        optimizer=config["trainer"]["optimizer"],
    )
    assert isinstance(made, ModernClassifier)
    return made


def test_training_batches_are_turned_and_others_are_not():
    module = classifier()
    batch = torch.randn(40, 2, 51, 51), torch.arange(40)
    x, labels = module.train().on_after_batch_transfer(batch, 0)
    assert torch.equal(labels, batch[1])
    assert not torch.equal(x, batch[0])
    torch.testing.assert_close(x.sum((2, 3)), batch[0].sum((2, 3)), atol=1e-3, rtol=1e-4)
    assert module.eval().on_after_batch_transfer(batch, 0)[0] is batch[0]


def test_labels_are_smoothed_in_training_alone():
    module = classifier(label_smoothing=0.2)
    logits, batch = torch.tensor([[3.0, -3.0]]), (torch.zeros(1), torch.tensor([0]))
    sure, unsure = logits.log_softmax(1)[0]
    assert module.eval().loss(logits, batch) == pytest.approx(-sure.item())
    assert module.train().loss(logits, batch) == pytest.approx(-(0.9 * sure + 0.1 * unsure).item())


def test_the_average_forgets_the_beginning():
    assert averaging(0.995, 0) == pytest.approx(0.1)
    assert averaging(0.995, 10_000) == 0.995
    average = 1.0
    for step in range(50):
        average *= averaging(0.995, step)
    assert average < 1e-3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("augment=mixup", "trainer.augment is 'mixup'; give dihedral, or null"),
        ("label_smoothing=1.5", "trainer.label_smoothing is 1.5; give a number of at least 0"),
        ("ema=1", "trainer.ema is 1; give a number above 0 and below 1, or null"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        check_training(composed("train", "trainer=modern", f"trainer.{setting}"))


def arguments(root: Path) -> list[str]:
    return [
        "model=nodia_matched", "model.network.width=8", "data=stamps", f"data.path={root / 'set'}",
        f"paths.root={root}", "trainer=modern", "trainer.max_epochs=6", "trainer.save_every_s=0",
        "trainer.batch_size=16", "trainer.accelerator=cpu",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    write_set(tmp_path / "set", 60, beside=True)
    run("train.py", *arguments(tmp_path), "name=whole")
    points = (tmp_path / "mlruns" / "checkpoints").glob
    (whole,) = points("*/last.ckpt")
    process = Started("train.py", *arguments(tmp_path), "name=cut")
    while len(list(points("*/last.ckpt"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    run("train.py", "run=cut", f"paths.root={tmp_path}")
    (cut,) = (file for file in points("*/last.ckpt") if file != whole)
    ours, theirs = (torch.load(file, weights_only=True) for file in (whole, cut))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[part][k], theirs[part][k]) for k in ours[part])
    differs = [
        k for k in ours["state_dict"]
        if not torch.equal(ours["state_dict"][k], ours["current_model_state"][k])
    ]  # fmt: skip
    assert differs, "the averaged weights are kept"
    # What was kept scores, with the average over turns that training left out.
    scorer = load_file(whole.with_name("best.ckpt"))
    assert scorer.network is not None and scorer.network.tta
    scores = scorer.score(StampSet.open(tmp_path / "set"))
    assert scores.shape == (60,)
    assert scores.std() > 0
