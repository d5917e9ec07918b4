"""The networks of the package know real from bogus, on frames that nobody has trained on."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import rb
from rb.cli import main
from rb.errors import UserError
from rb.models.pretrained import PUBLISHED, SEARCHES, SECOND_LOOKS, published_file
from rb.scan.finds import frame_finds
from rb.scan.judge import both, logit
from rb.scan.search import find_peaks, heat_map
from rb.stamps.batch import Stamps
from rb.stamps.layout import SIDE_COLUMNS
from rb.survey.camera.observation import observe
from rb.survey.frame import simulate_frame
from rb.survey.pipeline.pair import measure_pair
from rb.survey.settings import settings_from_config
from rb.survey.tiles import true_events


@cache
def frames() -> tuple[Stamps, np.ndarray]:
    settings = settings_from_config({"seed": 77, "planes": ["psf"]})
    some = [simulate_frame(settings, number) for number in range(6)]
    names = [n for n in rb.load("nodia").inputs.side if n != "psf"]
    rows = [frame.catalogue for frame in some]
    stamps = Stamps(
        np.concatenate([frame.stamps.images for frame in some]),
        None,
        np.concatenate([frame.stamps.psf for frame in some]),
        {n: np.concatenate([np.asarray(r[n], float) for r in rows]) for n in names},
    )
    return stamps, np.concatenate([np.asarray(r["label"]) for r in rows])


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_tells_real_from_bogus(name):
    model = rb.load(f"published:{name}")
    stamps, labels = frames()
    low = 25 - model.inputs.size // 2
    cut = slice(low, low + model.inputs.size)
    stamps = Stamps(stamps.images[:, :, cut, cut], None, stamps.psf, stamps.side)
    p_real = model.p_real(stamps)
    assert len(labels) > 120
    assert ((p_real > 0.5) == (labels == 0)).mean() > (0.9 if name == "nodia_stamps" else 0.95)
    assert model.provenance.licence == "BSD-3-Clause"
    assert model.provenance.training_set.n_train >= 60_000


def test_without_psfs_stamps_alone_are_the_better_choice():
    stamps, labels = frames()
    bare = Stamps(
        stamps.images,
        None,
        np.full_like(stamps.psf, np.nan),
        {n: np.full(len(stamps), np.nan) for n in stamps.side},
    )
    right = {
        name: ((rb.load(name).p_real(bare) > 0.5) == (labels == 0)).mean()
        for name in ("nodia", "nodia_stamps")
    }
    assert 0.7 < right["nodia"] < right["nodia_stamps"]


def test_only_these_have_names():
    assert published_file("nodia_of_another") is None
    assert sorted(p.stem for p in published_file("nodia").parent.glob("*.ckpt")) == sorted(
        (*PUBLISHED, *SEARCHES, *SECOND_LOOKS)
    )


@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_finds_supernovae_in_frames_and_judges_no_stamps(name):
    model = rb.load(f"published:{name}")
    assert model.network.compare == (name == "scan")
    settings = settings_from_config({"seed": 77})
    found = told = false = 0
    for number in range(5):
        observation = observe(settings, number)
        pair = measure_pair(observation.search.image, observation.template.image, observation.mask)
        events = true_events(observation, pair)
        events = events[(events.snr > 8) & ~events.masked]
        x, y = find_peaks(heat_map(model.network, pair), pair.masked, 0.0)
        distance = np.hypot(events.x.to_numpy()[:, None] - x, events.y.to_numpy()[:, None] - y)
        found, told = found + (distance.min(1) < 2.5).sum(), told + len(events)
        every = true_events(observation, pair)
        off = np.hypot(every.x.to_numpy()[:, None] - x, every.y.to_numpy()[:, None] - y)
        false += (off.min(0) > 2.5).sum()
    assert told > 20 and found / told > 0.85 and false <= 10
    with pytest.raises(UserError, match="searches whole images"):
        model.p_real(frames()[0])
    assert model.provenance.licence == "BSD-3-Clause"


@pytest.mark.slow
def test_the_second_look_ranks_what_the_search_found_better():
    model = rb.load("published:scan_judge")
    settings = settings_from_config({"seed": 77})
    parts = [frame_finds(settings, "scan", number) for number in range(12)]
    second = []
    for part in parts:
        side = {name: part.rows[name].to_numpy() for name in SIDE_COLUMNS}
        stamps = Stamps(part.arrays["stamps"], None, part.arrays["psf"], side)
        second.append(logit(model.p_real(stamps)))
    rows = pd.concat([part.rows for part in parts])
    real, search = rows["label"].to_numpy() == 0, rows["logit"].to_numpy()
    assert real.sum() > 50 and (~real).sum() > 50
    auc = {
        name: roc_auc_score(real, score)
        for name, score in {"search": search, "both": both(search, np.concatenate(second))}.items()
    }
    assert auc["both"] > auc["search"] > 0.9
    assert model.provenance.licence == "BSD-3-Clause"


@pytest.mark.slow
def test_the_network_with_the_largest_graph_can_be_exported(tmp_path, capsys):
    target = tmp_path / "nodia.onnx"
    assert main(["export", "nodia", "--out", str(target)]) == 0
    assert "p_real differs from the network by at most" in capsys.readouterr().out
    operations = {node.op_type for node in onnx.load(target).graph.node}
    assert not {"DFT", "STFT", "Loop", "Scan", "If"} & operations  # which not every engine has
    stamps, _ = frames()
    np.testing.assert_allclose(
        rb.load(target).p_real(stamps), rb.load("nodia").p_real(stamps), atol=1e-5
    )


def test_pixels_that_no_star_has_still_get_an_answer():
    stamps = frames()[0][slice(8)]
    stamps.images[::2, :, 20:23, 20:23] = 1e30
    stamps.images[1::2, 1, 5, 5] = -3e38
    assert np.isfinite(rb.load("nodia").p_real(stamps)).all()
    assert np.isfinite(rb.load("dia").p_real(stamps)).all()
