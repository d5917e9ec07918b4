from __future__ import annotations

import time

import numpy as np
import pytest
from results_factory import scores

from rb.metrics.binned import bin_edges, binned_rates, calibration_bins
from rb.metrics.classification import confusion
from rb.metrics.timing import time_prediction


def test_bins_add_up_to_the_whole():
    labels, p_real = scores(3000, 1.0)
    mag = np.random.default_rng(0).uniform(20, 25, 3000)
    mag[:10] = np.nan
    edges = np.linspace(20, 25, 11)
    frame = binned_rates(mag, labels, p_real, edges)
    matrix = confusion(labels[10:], p_real[10:])
    assert frame.n_real.sum() == matrix.n_real and frame.n_bogus.sum() == matrix.n_bogus
    assert (frame.tpr * frame.n_real).sum() == pytest.approx(matrix.tp)
    assert (frame.fpr * frame.n_bogus).sum() == pytest.approx(matrix.fp)
    for name in ("tpr", "fpr", "purity"):
        assert (frame[f"{name}_low"] <= frame[name]).all()
        assert (frame[name] <= frame[f"{name}_high"]).all()
    assert ((frame.low <= frame.centre) & (frame.centre <= frame.high)).all()


def test_bins_by_hand_and_empty_bins():
    frame = binned_rates(
        np.array([1.0, 1.5, 1.9, 2.0, 4.0, 9.0]),
        np.array([0, 0, 1, 1, 0, 0]),
        np.array([0.9, 0.1, 0.8, 0.1, 0.7, 0.9]),
        np.array([1.0, 2.0, 3.0, 4.0]),
    )
    assert frame.n_real.tolist() == [2, 0, 1] and frame.n_bogus.tolist() == [1, 1, 0]
    assert frame.tpr[0] == 0.5 and frame.purity[0] == 0.5 and frame.fpr[0] == 1
    assert np.isnan(frame.tpr[1]) and np.isnan(frame.purity[1]) and np.isnan(frame.fpr[2])
    assert frame.centre[1] == 2.0 and frame.tpr[2] == 1


def test_edges():
    values = np.concatenate([np.linspace(1, 100, 1000), [np.nan, np.inf, -5]])
    log = bin_edges(values, 8, log=True)
    assert log.size == 9 and np.allclose(np.diff(np.log(log), n=2), 0)
    assert bin_edges(np.full(5, 3.0)).tolist() == [2.5, 3.5]
    with pytest.raises(ValueError, match="no finite"):
        bin_edges(np.array([np.nan]))
    with pytest.raises(ValueError, match="increase"):
        binned_rates(values, np.zeros(1003, int), np.zeros(1003), np.array([2.0, 1.0]))


def test_calibration_bins():
    frame = calibration_bins(np.array([0, 0, 1, 1, -1]), np.array([0.95, 1.0, 0.9, 0.0, 0.5]), 10)
    assert frame.n.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert frame.real.iloc[-1] == pytest.approx(2 / 3)
    assert frame.mean_p.iloc[-1] == pytest.approx(0.95)
    assert frame.real.iloc[0] == 0 and np.isnan(frame.real.iloc[5])


def test_time_per_stamp():
    calls: list[int] = []

    def predict(batch: np.ndarray) -> None:
        calls.append(len(batch))
        time.sleep(0.002 * len(batch))

    frame = time_prediction(predict, np.zeros((4, 3)), (1, 8), repeats=5, warm_up=2)
    assert frame.batch_size.tolist() == [1, 8]
    # Two calls to warm up and five timed ones each; the batch of 8 repeats the 4 stamps.
    assert calls == [1] * 7 + [8] * 7
    assert (frame["ms_per_stamp"] >= 2).all() and (frame["min"] <= frame["ms_per_stamp"]).all()
    assert (frame["max"] >= frame["ms_per_stamp"]).all()
    # Sleeping costs no CPU.
    assert (frame["cpu_ms_per_stamp"] < frame["ms_per_stamp"]).all()


def test_timing_stops_in_time_and_waits_for_the_device():
    waits: list[int] = []
    frame = time_prediction(
        lambda batch: time.sleep(0.05),
        np.zeros(3),
        (2,),
        repeats=1000,
        warm_up=1,
        max_seconds=0.3,
        synchronise=lambda: waits.append(1),
    )
    assert 3 <= frame.repeats[0] < 20
    assert len(waits) == frame.repeats[0] + 1


def test_timing_nothing():
    with pytest.raises(ValueError, match="at least one stamp"):
        time_prediction(len, [], (1,))
