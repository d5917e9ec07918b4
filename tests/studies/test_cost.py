"""What things cost: known values, scaling by area, and the study on a tiny network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from composing import composed, quiet, tracking_of, train_tiny
from toys import toy_stamps, write_set

from rb.errors import UserError
from rb.evaluation.cost import (
    FOCAL_PLANE_PX,
    Imaging,
    Machine,
    checked_batches,
    extrapolated_hours,
    imaging_of,
    tiles_per_plane,
)
from rb.figures.studies.cost import plane_figure, prediction_figure
from rb.stamps import StampSet, StampSetWriter
from rb.studies.cost import sections


def test_node_hours_by_nerscs_rule():
    whole = Machine(nodes=2, charge_factor=3.0, qos_factor=0.5, cores_per_node=128)
    assert whole.node_hours(5400) == pytest.approx(3.0)
    assert whole.charged_hours(5400) == pytest.approx(4.5)
    shared = Machine(charge_factor=2.0, cores_per_node=128, cores=32)
    assert shared.node_hours(7200) == pytest.approx(0.5)
    assert shared.charged_hours(7200) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"nodes": 0}, "study.machine.nodes is 0"),
        ({"charge_factor": -1.0}, "study.machine.charge_factor is -1.0"),
        ({"qos_factor": "dear"}, "study.machine.qos_factor is dear"),
        ({"cores": 129}, "1 node\\(s\\) have 128"),
        ({"cores_per_node": True}, "study.machine.cores_per_node is True"),
    ],
)
def test_machines_that_cannot_be(setting, message):
    with pytest.raises(UserError, match=message):
        Machine(**setting)


def test_batch_sizes_are_checked_and_put_in_order():
    assert checked_batches([200, 1, 200]) == [1, 200]
    for wrong in ([], [0], [1.5], ["all"]):
        with pytest.raises(UserError, match="batch_sizes"):
            checked_batches(wrong)


def test_a_frame_is_scaled_to_the_focal_plane_by_area():
    imaging = Imaging({"subtraction": np.array([0.1, 0.3])}, frame_px=1000**2, candidates=50)
    assert imaging.per_frame("subtraction") == pytest.approx(0.2)
    assert imaging.per_candidate("subtraction") == pytest.approx(0.4 / 50)
    assert imaging.per_plane("subtraction") == pytest.approx(0.2 * 62 * 2048 * 4096 / 1e6)
    assert imaging.candidates_per_plane == pytest.approx(25 * FOCAL_PLANE_PX / 1e6)
    # The paper: a focal plane at 0.3 ms per 51x51 px takes about a minute (section 5.2).
    assert 0.3e-3 * tiles_per_plane(51) == pytest.approx(60, abs=0.5)
    assert extrapolated_hours(0.1, 10_000, 10, 80_000, 350) == pytest.approx(28.0)


def simulated_set(path, tables: bool = True, settings: bool = True) -> StampSet:
    """A stamp set with the side table that the simulated survey keeps."""
    stamps, labels = toy_stamps(60)
    rows = pd.DataFrame({"id": np.arange(60), "label": labels, "group": ["f"] * 60})
    parameters = {"settings": {"scene": {"frame_size": 640}}} if settings else {}
    with StampSetWriter(
        path, source="simulated", parameters=parameters, survey="toy", pixel_scale=0.263
    ) as writer:
        writer.append(stamps, rows)
        if tables:
            seconds = {"cpu_psf_matching_s": [0.02, 0.04], "cpu_subtraction_s": [0.01, 0.01]}
            writer.add_table("frames", pd.DataFrame({"detections": [20, 40], **seconds}))
    return StampSet.open(path)


def test_imaging_is_read_from_the_frames_of_a_simulated_set(tmp_path):
    imaging = imaging_of(simulated_set(tmp_path / "set"))
    assert (imaging.frames, imaging.candidates, imaging.frame_px) == (2, 60, 640**2)
    assert imaging.per_candidate("psf_matching") == pytest.approx(0.001)
    assert imaging_of(simulated_set(tmp_path / "other", tables=False)) is None
    with pytest.raises(UserError, match="how large its frames are"):
        imaging_of(simulated_set(tmp_path / "unknown", settings=False))


def config_of(root, *more: str):
    return composed(
        "evaluate", "study=cost", f"paths.root={root}", "study.batch_sizes=[1,200]",
        "study.repeats=3", "study.max_seconds=0.05", "study.candidates=20", *more,
    )  # fmt: skip


@pytest.mark.slow
def test_the_study_of_a_tiny_network(tmp_path):
    simulated_set(tmp_path / "set")
    train_tiny(tmp_path, "nodia", "trainer.max_epochs=1", "split.val=0.3")
    tracking = tracking_of(tmp_path)
    found = sections(config_of(tmp_path, "study.machine.cores=64"), tracking, quiet())
    training, prediction, comparison = found
    (run,) = tracking.runs("training")
    row = training.tables["Cost of training"].iloc[0]
    assert row["CPU-hours"] == run.data.metrics["cost/train_cpu_hours"]
    assert row["hours charged"] == pytest.approx(row["wall hours"] / 2)
    table = prediction.tables["Time of a prediction"]
    assert table["stamps at a time"].tolist() == [1, 200]
    assert (table["ms per stamp"] > 0).all()
    assert run.data.metrics["cost/ms_per_stamp"] == pytest.approx(table["ms per stamp"].iloc[1])
    (cost,) = comparison.tables.values()
    cost = cost.set_index("what")
    assert cost.loc["DIA here: subtraction", "CPU ms per candidate"] == pytest.approx(1 / 3)
    assert cost.loc["DES: all of DIA", "CPU s per focal plane"] == 15.5 * 3600
    per_stamp = cost.loc["nodia, candidates", "CPU ms per candidate"]
    assert per_stamp == pytest.approx(table["CPU ms, with scaling"].min())
    tiles = cost.loc["nodia, tiles", "CPU s per focal plane"]
    assert tiles == pytest.approx(per_stamp / 1000 * tiles_per_plane(51))


@pytest.mark.slow
def test_without_simulated_frames_the_papers_numbers_stand_alone(tmp_path):
    write_set(tmp_path / "set", 60)
    train_tiny(tmp_path, "dia", "trainer.max_epochs=1")
    comparison = sections(config_of(tmp_path), tracking_of(tmp_path), quiet())[2]
    assert "only the simulated survey measures it" in comparison.paragraphs[0]
    (cost,) = comparison.tables.values()
    here = cost[cost["where"] == "here"].set_index("what")
    assert list(here.index) == ["dia, candidates", "dia, tiles"]
    assert np.isnan(here.loc["dia, candidates", "CPU s per focal plane"])


def test_pictures_of_cost():
    timing = pd.DataFrame(
        {"batch_size": [1, 32], "ms_per_stamp": [2.0, 0.5], "mad": [0.1, 0.1],
         "cpu_ms_per_stamp_with_scaling": [2.5, 0.7]}
    )  # fmt: skip
    axes = prediction_figure({"dia": timing}, {"the paper's DIA": 1.0}).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "32"]
    assert "the paper's DIA" in [t.get_text() for t in axes.texts]
    said = prediction_figure({}).axes[0].texts[0].get_text()
    assert said == "no network was timed"
    axes = plane_figure(["PSF matching", "DES"], [40.0, 55_800.0], [True, False]).axes[0]
    assert [t.get_text() for t in axes.texts] == ["40 s", "15.5 h"]
    assert plane_figure([], [], []).axes[0].texts
