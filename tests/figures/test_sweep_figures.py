"""Pictures of sweeps show what was tried and what came of it."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from rb.figures.studies.sweep import folds_figure, sweep_figure
from rb.figures.style import figure_bytes

ROWS = [[5, 3, 3, 100], [7, 5, 3, 200], [10, 5, 5, 100], [15, 3, 3, 200]]
NAMES = ["kernel 1", "kernel 2", "kernel 3", "batch size"]


def texts(figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts]


def test_one_setting_gives_points():
    table = pd.DataFrame(
        {"trainer.optimizer.lr": [1e-4, 1e-3, 1e-2], "best val/acc": [0.8, 0.9, 0.85]}
    )
    axes = sweep_figure(table, ["trainer.optimizer.lr"]).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_legend().get_texts()[0].get_text() == "best: 0.9000"
    named = pd.DataFrame({"model": ["dia", "nodia"], "best val/acc": [0.96, 0.91]})
    axes = sweep_figure(named, ["model"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["dia", "nodia"]


def test_two_settings_give_a_heat_map_with_gaps():
    rows = list(itertools.product(["dia", "nodia"], [50, 100, 200]))
    table = pd.DataFrame(rows, columns=["model", "trainer.batch_size"])
    table["best val/acc"] = np.linspace(0.9, 0.95, 6)
    figure = sweep_figure(table.drop(1), ["model", "trainer.batch_size"])
    assert sorted(texts(figure)) == sorted(["0.900", "–", "0.920", "0.930", "0.940", "0.950"])
    assert figure.axes[0].get_xlabel() == "batch size"


def test_a_search_in_the_plane_gives_points_there():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(0.1, 1, (20, 2)), columns=["a", "b"])
    table["best val/acc"] = rng.uniform(0.8, 0.9, 20)
    figure = sweep_figure(table, ["a", "b"])
    assert not figure.axes[0].images
    assert len(figure.axes[0].collections[0].get_offsets()) == 20


def test_more_settings_give_parallel_coordinates():
    table = pd.DataFrame(ROWS, columns=NAMES)
    table["best val/acc"] = [0.88, 0.90, 0.87, 0.89]
    figure = sweep_figure(table, NAMES)
    axes = figure.axes[0]
    assert [t.get_text().replace("\n", " ") for t in axes.get_xticklabels()] == [
        *NAMES, "best validation accuracy",
    ]  # fmt: skip
    assert {"5", "7", "10", "15", "100", "200", "0.870", "0.900"} <= set(texts(figure))
    lines = [line for line in axes.lines if len(line.get_xdata()) == 5]
    assert len(lines) == 4
    best = max(lines, key=lambda line: line.get_linewidth())
    assert best.get_ydata()[-1] == 1.0
    assert len(figure_bytes(figure)) > 10_000


def test_a_setting_that_all_jobs_share_is_left_out():
    table = pd.DataFrame(ROWS, columns=NAMES).assign(**{"kernel 2": 3, "kernel 3": 3})
    table["best val/acc"] = [0.88, 0.90, 0.87, 0.89]
    axes = sweep_figure(table, NAMES).axes[0]
    assert {axes.get_xlabel(), axes.get_ylabel()} == {"kernel 1", "batch size"}


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="at least one job"):
        sweep_figure(pd.DataFrame({"a": [], "best val/acc": []}), ["a"])


def test_folds_tell_mean_and_deviation_of_the_test_parts():
    folds = {"fold": [0, 1, 2], "validation": [0.91, 0.92, 0.93], "test": [0.90, 0.92, 0.94]} | {
        "spread": (0.92, 0.02)
    }
    short = {"fold": [0, 1], "validation": [0.91, 0.92], "test": [0.90, None]} | {"spread": None}
    figure = folds_figure({"dia": folds, "nodia": short})
    assert [a.get_title() for a in figure.axes] == ["dia: test 0.9200 ± 0.0200", "nodia"]
