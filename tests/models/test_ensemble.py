"""Several checkpoints as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from composing import train_tiny
from torch import nn
from toys import toy_stamps, write_set

from rb.errors import UserError
from rb.models.ensemble import Ensemble, combine
from rb.models.files import load_file


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("ensemble")
    write_set(root / "set", 60)
    for seed in (1, 2):
        train_tiny(root, "nodia", f"seed={seed}", "trainer.max_epochs=1")
    train_tiny(root, "dia", "trainer.max_epochs=1")
    files = (root / "mlruns" / "checkpoints").glob("*/best.ckpt")
    return sorted(files, key=lambda file: file.stat().st_mtime)


def test_an_ensemble_says_the_mean_of_its_members(checkpoints, tmp_path):
    members = [load_file(file) for file in checkpoints[:2]]
    combine(checkpoints[:2], tmp_path / "both.ckpt", "both")
    both = load_file(tmp_path / "both.ckpt")
    stamps, _ = toy_stamps(20, seed=3)
    each = [member.p_real(stamps) for member in members]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(both.p_real(stamps), np.mean(each, 0), atol=1e-6)
    assert both.inputs == members[0].inputs
    assert both.n_parameters == sum(member.n_parameters for member in members)
    assert both.provenance.name == "both"
    assert both.provenance.training_set == members[0].provenance.training_set
    # It is a model like others, so it can be a member too.
    three = combine([tmp_path / "both.ckpt", checkpoints[0]], tmp_path / "three.ckpt")
    wanted = (both.p_real(stamps) + each[0]) / 2
    np.testing.assert_allclose(three.p_real(stamps), wanted, atol=1e-6)


def test_members_need_no_embedding():
    ensemble = Ensemble((1, 1, 4), [])
    ensemble.members.extend(nn.Linear(4, 2) for _ in range(2))
    x = torch.randn(5, 4)
    wanted = torch.stack([member(x).softmax(1) for member in ensemble.members]).mean(0)
    torch.testing.assert_close(ensemble(x).exp(), wanted)


def test_what_is_fed_differently_or_alone_is_refused(checkpoints, tmp_path):
    target = tmp_path / "no.ckpt"
    with pytest.raises(UserError, match="is fed other inputs than"):
        combine([checkpoints[0], checkpoints[2]], target)
    with pytest.raises(UserError, match="ensemble of 1 makes no sense"):
        combine(checkpoints[:1], target)
    with pytest.raises(UserError, match="there is no such checkpoint"):
        combine([checkpoints[0], tmp_path / "none.ckpt"], target)
    assert not target.exists()
