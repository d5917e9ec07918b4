"""A network that is given side information trains, scores, and keeps what it wants."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from toys import write_set

from rb.errors import UserError
from rb.models.checkpoint import TrainedModel
from rb.models.classifier import Classifier
from rb.stamps.datamodule import StampDataModule
from rb.stamps.inputs import InputSpec
from rb.stamps.splits import make_split

INPUTS = {"channels": ["srch", "tmpl"], "stacking": "depth", "side": ["psf_fwhm_srch", "psf"]}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.01}


@pytest.fixture
def stamp_set(tmp_path):
    return write_set(tmp_path / "set", 60, size=20, beside=True)


@pytest.mark.parametrize("memory", [2**30, 0])
def test_it_reaches_the_network_in_training_and_scoring(stamp_set, tmp_path, memory):
    spec = InputSpec.from_config(INPUTS, stamp_set)
    network = {"_target_": "side_network.SideNetwork"}
    classifier = Classifier(network, spec.to_dict(), SGD)
    assert classifier.network.linear.in_features == 2 + 1 + 2 * 81
    split = make_split(stamp_set.labels, stamp_set.groups)
    data = StampDataModule(stamp_set, split, spec, batch_size=16, memory=memory)
    x, side, labels = next(iter(data.val_dataloader()))
    assert len(x) == len(side) == len(labels)
    fwhm = stamp_set.catalogue["psf_fwhm_srch"].to_numpy()[split.val]
    np.testing.assert_allclose(side[:, 0], fwhm, rtol=1e-6)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(classifier, datamodule=data)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    saved = torch.load(tmp_path / "m.ckpt", weights_only=True)["rb"]["inputs"]
    assert InputSpec(**saved) == spec
    model = TrainedModel(classifier.network.eval(), spec, 0.5, {})
    rows = np.array([5, 3, 40])
    p_real = model.score(stamp_set, rows)
    np.testing.assert_allclose(p_real, model.p_real(stamp_set.read(rows, spec)), rtol=1e-5)
    changed = stamp_set.read(rows, spec)
    changed.side["psf_fwhm_srch"][:] += 10
    assert (model.p_real(changed) != p_real).all()
    with pytest.raises(UserError, match="came without"):
        model.p_real(stamp_set[rows])


def test_a_network_that_takes_none_is_not_given_any(stamp_set):
    spec = InputSpec.from_config(INPUTS, stamp_set)
    network = {"_target_": "rb.models.cnn.StampCNN", "convolutions": [], "dense": [2]}
    with pytest.raises(UserError, match=r"model\.network: .*n_side"):
        Classifier(network, spec.to_dict(), SGD)
