"""Batches: every stamp once an epoch, in an order fixed by seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import write_set

from rb.errors import UserError
from rb.stamps.datamodule import Batches, StampDataModule
from rb.stamps.inputs import InputSpec
from rb.stamps.splits import make_split


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60), size=st.integers(1, 70), seed=st.integers(0, 9), epoch=st.integers(0, 5)
)
def test_an_epoch_holds_every_stamp_once(n, size, seed, epoch):
    x = torch.arange(n)
    batches = Batches(lambda i: x[i], x * 10, size, shuffle=True, seed=seed, epoch=lambda: epoch)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    seen = torch.cat([b[0] for b in drawn])
    assert sorted(seen.tolist()) == list(range(n))
    assert all((labels == inputs * 10).all() for inputs, labels in drawn)
    assert torch.equal(seen, torch.cat([b[0] for b in batches]))


def test_epochs_differ():
    x = torch.arange(100)
    orders = [
        torch.cat([b[0] for b in Batches(lambda i: x[i], x, 10, shuffle=True, epoch=lambda k=k: k)])
        for k in range(4)
    ]
    assert len({tuple(o.tolist()) for o in orders}) == 4


def module(stamp_set, memory: int) -> StampDataModule:
    split = make_split(stamp_set.labels, stamp_set.groups)
    return StampDataModule(stamp_set, split, InputSpec(), batch_size=16, memory=memory)


def test_batches_are_the_same_from_memory_and_from_disk(stamp_set):
    held, streamed = module(stamp_set, 2**40), module(stamp_set, 0)
    assert held.in_memory
    assert not streamed.in_memory
    for loader in ("train_dataloader", "val_dataloader"):
        pairs = zip(getattr(held, loader)(), getattr(streamed, loader)(), strict=True)
        for (x, labels), (same_x, same_labels) in pairs:
            torch.testing.assert_close(x, same_x)
            assert torch.equal(labels, same_labels)


def test_labels_belong_to_their_stamps(stamp_set):
    data = module(stamp_set, 2**40)
    x, labels = next(iter(data.val_dataloader()))
    rows = data.split.val
    torch.testing.assert_close(x, InputSpec().prepare(stamp_set[rows]))
    assert labels.tolist() == stamp_set.labels[rows].tolist()


def test_a_dia_network_is_refused_where_there_is_no_difference(tmp_path):
    without = write_set(tmp_path / "s", 40, channels=("srch", "tmpl"))
    split = make_split(without.labels, without.groups)
    with pytest.raises(UserError, match="needs diff"):
        StampDataModule(without, split, InputSpec())
    spec = InputSpec(channels=("srch", "tmpl"))
    x, _ = next(iter(StampDataModule(without, split, spec).train_dataloader()))
    assert np.isfinite(x.numpy()).all()
