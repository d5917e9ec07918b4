"""What the dense network learns: maps, turns, ranks, probabilities, and whole trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from command_lines import run_here
from dense import INPUTS, NETWORK, classifier
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rb
from rb.errors import UserError
from rb.metrics.search import completeness
from rb.models.build import build_network
from rb.models.initial_weights import load_weights
from rb.scan.calibration import fit_line
from rb.scan.search import heat_map
from rb.scan.task import events_of, peaks, recall_at_rank, target_map, turn_events
from rb.sources.frames import open_stamps
from rb.stamps.augment import turn_each
from rb.stamps.inputs import InputSpec
from rb.stamps.stampset import StampSet
from rb.survey.pipeline.pair import MeasuredPair

SMALL = {
    "name": "frames",
    "frames": 3,
    "tile": 128,
    "processes": 1,
    "seed": 5,
    "scene": {"frame_size": 256, "sn_per_frame": 12, "star_density": 20.0},
}


@given(
    st.integers(0, 63), st.integers(0, 63), st.tuples(st.booleans(), st.booleans(), st.booleans())
)
def test_events_turn_with_their_pixels(x, y, element):
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, y, x] = 1
    elements = torch.tensor(element)[:, None]
    turned = turn_each(image, elements)[0, 0]
    where = turn_events(torch.tensor([[[float(x), float(y), 9.0]]]), elements, 64)[0, 0]
    assert turned[int(where[1]), int(where[0])] == 1 and where[2] == 9


def test_a_map_has_a_peak_for_each_transient_and_none_for_what_counts_neither_way():
    events = torch.tensor(
        [
            [
                [30.2, 40.4, 12.0],
                [60.0, 20.0, 2.0],
                [70.0, 70.0, 0.0],
                [3.0, 30.0, 50.0],
                [50.0, 50.0, -9.0],
                [torch.nan] * 3,
            ]
        ]
    )
    target, weight = target_map(events, 100)
    assert (target == 1).nonzero().tolist() == [[0, 40, 30]]
    assert 0 < target[0, 41, 30] < 1
    assert weight[0, 20, 60] == 0 and weight[0, 70, 70] == 0  # faint, masked
    assert weight[0, 50, 50] == 1  # what fades is not looked for, and no matter
    assert weight[0, :, 3].max() == 0 and weight[0, 40, 30] == 1


def test_recall_counts_each_transient_once_and_false_peaks_push_others_out():
    events = torch.tensor([[[30.0, 40.0, 12.0], [60.0, 60.0, 8.0], [80.0, 30.0, 2.0]]])
    logits = torch.full((1, 100, 100), -9.0)
    logits[0, 41, 31], logits[0, 60, 60], logits[0, 30, 80] = 3.0, 2.0, 5.0
    assert recall_at_rank(logits, events) == 1  # the faint one does not count either way
    logits[0, 20, 20] = 9.0
    assert recall_at_rank(logits, events) == 0.5
    assert recall_at_rank(logits, torch.full((1, 2, 3), torch.nan)) == 1


def test_the_loss_is_least_for_the_map_itself():
    made = classifier()
    events = torch.tensor([[[30.0, 40.0, 12.0]]])
    target, _ = target_map(events, 100)
    batch = (torch.zeros(1), torch.zeros(1), events)
    right = made.loss(torch.where(target == 1, 9.0, -9.0), batch)
    missed = made.loss(torch.full_like(target, -9.0), batch)
    false = made.loss(
        torch.where((target == 1) | (torch.rand_like(target) < 0.01), 9.0, -9.0), batch
    )
    assert right < 0.01 < missed and right < 0.01 < false


@given(hnp.arrays(np.float64, 60, elements=st.floats(-4, 4)), st.floats(0.5, 2.0), st.floats(-2, 2))
def test_a_line_of_probabilities_keeps_the_ranking(logits, slope, offset):
    rng = np.random.default_rng(0)
    real = rng.random(60) < 1 / (1 + np.exp(-(slope * logits + offset)))
    found = fit_line(logits, real)
    assert found[0] > 0


def test_a_line_of_probabilities_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    real = rng.random(40_000) < 1 / (1 + np.exp(-(0.7 * logits - 1.0)))
    np.testing.assert_allclose(fit_line(logits, real), (0.7, -1.0), atol=0.05)


def test_completeness_at_a_rate():
    # Two frames: one false positive at 5 in each, one at 3; events at 9, 4, and one never found.
    found, frame = np.array([9.0, 4.0, -np.inf]), np.array([0, 1, 1])
    false, false_frame = np.array([5.0, 5.0, 3.0]), np.array([0, 1, 1])
    got = completeness(found, frame, false, false_frame, np.arange(2), (0.4, 0.5, 1.0, 1.5, 9.0))
    # Ties: of two at 5 with one allowed, the second is the limit.
    np.testing.assert_allclose(got[0], [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    draws = completeness(found, frame, false, false_frame, np.arange(2), (1.0,), draws=50)
    assert draws.shape == (50, 1) and np.nanmin(draws) >= 0 and np.nanmax(draws) <= 1


@pytest.mark.parametrize("shape", [(130, 171), (64, 300), (257, 256)])
def test_tiles_and_odd_sizes_give_one_map(shape):
    rng = np.random.default_rng(1)
    images = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    psf = np.zeros((2, 25, 25), np.float32)
    psf[:, 11:14, 11:14] = 1 / 9
    pair = MeasuredPair(images[0], images[1], np.zeros(shape, bool), psf, (1.0, 1.0), 1.0, None)  # type: ignore[arg-type]
    network = classifier().network
    torch.nn.init.normal_(network.blocks[0].weight, 0, 0.1)
    whole = heat_map(network, pair, 4096)
    assert whole.shape == shape
    np.testing.assert_allclose(heat_map(network, pair, 64), whole, atol=1e-4)
    high = peaks(torch.from_numpy(whole)[None])[0]
    assert 0 < int(high.sum()) < high.numel() / 9


@pytest.mark.slow
def test_tiles_of_frames_carry_their_truth(tmp_path):
    stamps = open_stamps(SMALL | {"cache": str(tmp_path)}, progress=False)
    assert isinstance(stamps, StampSet) and len(stamps) == 12 and stamps.stamp_size == 128
    assert stamps.channels == ("srch", "tmpl") and len(set(stamps.groups)) == 3
    events, table = events_of(stamps), stamps.table("events")
    assert np.isfinite(events[..., 2]).sum() == len(table)
    bright = table[
        (table.snr > 8) & ~table.masked & table.x.between(3, 124) & table.y.between(3, 124)
    ]
    assert len(bright) > 3
    rows = {identity: row for row, identity in enumerate(stamps.ids)}
    ratios = []
    for event in bright.itertuples():
        srch, tmpl = stamps[rows[event.id]][1:]
        column, row = round(event.x), round(event.y)
        cut = (slice(max(row - 6, 0), row + 7), slice(max(column - 6, 0), column + 7))
        ratios.append((srch - tmpl)[cut].sum() / event.flux)
    assert 0.6 < np.median(ratios) < 1.3  # the seeing differs, so hosts add their part
    again = open_stamps(SMALL | {"cache": str(tmp_path / "b"), "processes": 2}, progress=False)
    assert again.digest == stamps.digest


@pytest.mark.slow
def test_a_tile_with_nothing_new_is_no_event(tmp_path):
    lone = SMALL | {"frames": 1, "cache": str(tmp_path)}
    lone["scene"] = SMALL["scene"] | {"sn_per_frame": 1}
    stamps = open_stamps(lone, progress=False)
    assert np.isfinite(events_of(stamps)[..., 0]).sum() == len(stamps.table("events")) == 1
    assert sorted(stamps.labels) == [0, 1, 1, 1]


@pytest.mark.slow
def test_what_a_search_finds_trains_its_second_look(tmp_path, monkeypatch):
    words = [
        "data=finds",
        "data.frames=3",
        "data.processes=1",
        "data.scene.frame_size=384",
        "data.scene.sn_per_frame=12",
        "data.scene.star_density=20",
        "model=nodia_matched",
        "model.init_from=nodia",
        "trainer=modern",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "split=grouped",
        "split.test=0.0",
        f"paths.root={tmp_path}",
    ]
    assert run_here(monkeypatch, "train.py", *words, "name=second") == 0
    (folder,) = (tmp_path / ".cache").glob("finds-*")
    stamps = StampSet.open(folder)
    assert stamps.channels == ("srch", "tmpl") and len(set(stamps.groups)) == 3
    real = np.array(stamps.labels) == 0
    assert 5 < real.sum() < len(stamps) - 5
    middle = stamps[np.flatnonzero(real)[0]][1]
    assert np.isfinite(middle).all() and middle[23:28, 23:28].mean() > middle[:5].mean()
    assert rb.load("second", tmp_path / "mlruns").inputs.kind == "nodia"
    assert run_here(monkeypatch, "train.py", *words, "data.search=nowhere.ckpt") == 2


def test_a_search_that_compares_nothing_starts_from_one_that_does():
    network = {**NETWORK, "width": 24, "dilations": [1, 1, 2, 4, 2, 1]}
    plain = build_network({**network, "compare": False}, InputSpec(**INPUTS))
    load_weights(plain, "scan")
    published = rb.load("published:scan").network
    weights = published.state_dict()
    assert all(
        torch.equal(v, weights[k]) for k, v in plain.state_dict().items() if "first" not in k
    )
    # It answers as the other one does where the plane of the comparison is 0.
    with torch.no_grad():
        published.first.weight[:, plain.first.in_channels :] = 0
    pair = torch.randn(1, 2, 32, 32), torch.rand(1, 2 * 25**2 + 2)
    torch.testing.assert_close(plain.eval()(*pair), published(*pair))
    with pytest.raises(UserError, match=r"published:dia are for another network"):
        load_weights(plain, "published:dia")


@pytest.mark.slow
def test_a_search_is_trained_taken_up_and_used(tmp_path, monkeypatch, as_before):
    words = [
        "experiment=scan",
        "data.frames=3",
        "data.tile=128",
        "data.processes=1",
        "data.scene.frame_size=256",
        "data.scene.sn_per_frame=12",
        "data.scene.star_density=20",
        "model.network.width=8",
        "model.network.dilations=[1,2]",
        "trainer.accelerator=cpu",
        "trainer.scheduler=null",
        "split.val=4",
        f"paths.root={tmp_path}",
    ]
    assert run_here(monkeypatch, "train.py", *words, "trainer.max_epochs=2", "name=one") == 0
    assert run_here(monkeypatch, "train.py", *words, "trainer.max_epochs=1", "name=two") == 0
    assert (
        run_here(
            monkeypatch, "train.py", "run=two", "trainer.max_epochs=2", f"paths.root={tmp_path}"
        )
        == 0
    )
    one, two = (rb.load(name, tmp_path / "mlruns").network.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert (
        run_here(
            monkeypatch,
            "evaluate.py",
            "study=scan",
            "runs=[one,nodia_stamps]",
            "study.frames=2",
            "study.draws=10",
            "study.bar=nodia_stamps",
            "data=simulated",
            "data.scene.frame_size=256",
            "data.scene.sn_per_frame=12",
            "data.scene.star_density=20",
            f"report={tmp_path / 'report'}",
            f"paths.root={tmp_path}",
        )
        == 0
    )
    table = pd.read_csv(next((tmp_path / "report").glob("**/*completeness*.csv")))
    judged = {"one", "one + nodia_stamps"}
    assert set(table["search"]) == judged | {"nodia_stamps", "DIA", "matched filter"}
    counts = [
        sum(int(name.rsplit("(")[1].strip(")")) for name in pd.read_csv(file).columns[1:])
        for file in (tmp_path / "report").glob("**/*frame*by*.csv")
    ]
    assert len(counts) == 6  # SNR, magnitude, host, bright star, seeing, depth
    assert counts[0] > 0 and len(set(counts)) == 1  # each supernova is in one range of each
