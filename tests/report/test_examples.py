from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text
from results_factory import run_result

from rb.report.examples import QUADRANTS, examples_page


def scores(separation: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    logits = np.where(labels == 0, separation, -separation) + rng.normal(0, 1.5, n)
    return labels, 1 / (1 + np.exp(-logits))


def triplets(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    stamps = rng.normal(0, 1, (n, 3, 51, 51)).astype(np.float32)
    stamps[:, 1:, 24:27, 24:27] += 100
    return stamps


@pytest.mark.parametrize("quadrant", list(QUADRANTS))
@pytest.mark.parametrize("choose", ["random", "extreme"])
def test_examples_belong_to_their_field(quadrant, choose):
    stamps = triplets(60)
    labels, p_real = scores(0.3, 60)
    stamps[:, 0, 0, 0] = np.arange(60)
    ids = np.arange(60) + 7000
    result = run_result("x", "dia", n=60, labels=labels, p_real=p_real, ids=ids, threshold=0.4)
    figure = examples_page(stamps.__getitem__, result, quadrant, n=5, choose=choose)
    label, called, _ = QUADRANTS[quadrant]
    belongs = np.flatnonzero((labels == label) & ((p_real >= 0.4) == called))
    shown = [int(axes.images[0].get_array()[0, 0]) for axes in figure.axes if axes.images]
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert len(shown) == 5 and set(shown) <= set(belongs)
    for row, title in zip(shown, titles, strict=True):
        assert title == f"{row + 7000}   p_real {p_real[row]:.3f}"
    assert f"({belongs.size:,} of {(labels == label).sum():,} " in figure.get_suptitle()
    if choose == "extreme":
        surest = np.sort(p_real[belongs])
        surest = surest[::-1] if called else surest
        np.testing.assert_array_equal(p_real[shown], surest[:5])


def test_no_example_of_a_kind():
    result = run_result("x", "dia", n=2, labels=np.array([0, 0]), p_real=np.array([0.9, 0.8]))
    figure = examples_page(triplets(2).__getitem__, result, "FP")
    assert (
        "no stamps" in [t.get_text() for t in figure.findobj(Text)]
        and "0 of 0" in figure.get_suptitle()
    )


def test_examples_read_only_what_they_show(tmp_path):
    np.save(tmp_path / "s.npy", triplets(50))
    mapped = np.load(tmp_path / "s.npy", mmap_mode="r")

    read = []

    def counting(rows):
        read.extend(rows)
        return mapped[rows]

    labels, p_real = scores(0.0, 50)
    result = run_result("x", "dia", n=50, labels=labels, p_real=p_real)
    examples_page(counting, result, "TP", n=4)
    assert len(read) == 4
