"""The paper's data figures show what is in the stamps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.figures.data.composites import Composites, composites_figure, side_by_side
from rb.figures.data.pixels import (
    _density,
    histograms_figure,
    raw_violins_figure,
    scaled_violins_figure,
    three_sigma_interval,
)
from rb.figures.data.triplets import triplets_figure
from rb.figures.limits import diff_limits, unmasked
from rb.figures.studies.kernels import kernels_figure
from rb.figures.style import save_figure
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import MASKED


@pytest.fixture
def stamps() -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.normal(0, 10, (4, 3, 21, 21)).astype(np.float32)
    found[:, 1:, 8:13, 8:13] += 300  # a source in search and template
    found[0, 2] -= 2000  # another zero point
    found[3, 0] = np.nan  # no difference image
    return found


TITLES = ["A", "B", "C", "D costs $5"]


def images(figure):
    return [axes for axes in figure.axes if axes.images and axes.get_title() in _NAMES]


_NAMES = ("tmpl", "srch", "diff")


def test_a_triplet_shows_template_search_and_difference_as_they_are(stamps):
    panels = images(triplets_figure(stamps, TITLES))
    assert [axes.get_title() for axes in panels[:3]] == ["tmpl", "srch", "diff"]
    for axes, channel in zip(panels[:3], (2, 1, 0), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), stamps[0, channel])
        assert axes.images[0].origin == "lower"


def test_search_and_template_share_a_range_unless_the_sky_differs(stamps):
    panels = images(triplets_figure(stamps, TITLES))
    limits = [axes.images[0].get_clim() for axes in panels]
    assert limits[0] != limits[1]  # A: no common zero point
    assert limits[3] == limits[4]  # B
    low, high = limits[5]
    assert low == pytest.approx(-high)


def test_missing_images_are_named_and_masked_pixels_are_no_pixels(stamps):
    figure = triplets_figure(stamps, TITLES)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert words.count("missing") == 1
    assert [t.get_text() for t in figure.texts][3] == r"D costs \$5"
    stamps[1, 0, 4, 4] = MASKED
    assert np.isnan(unmasked(stamps[1])[0, 4, 4])
    shown = images(triplets_figure(stamps[1:2], ["B"]))[2].images[0].get_array()
    assert shown.mask.sum() == 1


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(0.1, 100), st.integers(0, 100))
def test_differences_are_symmetric_about_zero_or_about_a_lost_zero_point(level, noise, seed):
    image = np.random.default_rng(seed).normal(level, noise, (21, 21))
    low, high = diff_limits(image)
    assert low < high
    centre = (low + high) / 2
    assert centre == pytest.approx(0, abs=1e-6 * (high - low)) or centre == pytest.approx(
        np.median(image)
    )


def test_composites_are_the_networks_input(stamps):
    horizontal = InputSpec()
    depth = InputSpec(stacking="depth")
    full = np.pad(stamps, ((0, 0), (0, 0), (15, 15), (15, 15)), mode="edge")
    wide = side_by_side(horizontal.prepare(full).numpy())
    assert wide.shape == (4, 51, 153)
    np.testing.assert_allclose(side_by_side(depth.prepare(full).numpy()), wide)
    figure = composites_figure({"dia": Composites(wide, ("diff", "srch", "tmpl"), TITLES)})
    shown = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["A", "B", "C", r"D costs \$5"]
    np.testing.assert_array_equal(shown[1].images[0].get_array(), wide[1])
    low, high = shown[1].images[0].get_clim()
    assert low == -high
    assert {axes.images[0].get_clim() for axes in shown} == {(low, high)}


def test_mean_and_three_sigma_of_known_values():
    low, high = three_sigma_interval(np.array([1.0, 3.0]))
    assert (low, high) == (2 - 3, 2 + 3)


def test_histograms_count_every_pixel_and_mark_three_sigma(stamps):
    figure = histograms_figure(stamps, TITLES)
    grid = np.array(figure.axes).reshape(4, 3)
    for column, channel in enumerate((2, 1, 0)):
        panel = grid[1, column]
        outline = panel.patches[-1].get_path().vertices
        heights = np.diff(outline[:, 0]) * outline[:-1, 1]  # area under the steps
        assert heights.sum() == pytest.approx(21 * 21 * np.ptp(stamps[1, channel]) / 60, rel=1e-3)
        lines = sorted(line.get_xdata()[0] for line in panel.lines)
        assert lines == pytest.approx(three_sigma_interval(stamps[1, channel].astype(float)))
    assert [text.get_text() for text in grid[3, 2].texts] == ["missing", "diff"]


def test_violins_hold_what_lies_within_three_sigma_and_end_where_it_does(stamps):
    figure = raw_violins_figure(stamps, TITLES)
    assert len(figure.axes) == 4
    values = stamps[1, 1].astype(float)
    low, high = three_sigma_interval(values)
    inside = values[(values >= low) & (values <= high)]
    outline = figure.axes[1].lines[0].get_ydata()
    assert (outline.min(), outline.max()) == pytest.approx((inside.min(), inside.max()))
    assert figure.axes[1].lines[0].get_xdata().max() <= 0  # search on the left
    right = [line for line in figure.axes[1].lines if len(line.get_xdata()) == 300][1]
    assert right.get_xdata().min() >= 0  # template on the right


def test_scaled_violins_keep_the_tails_and_mark_zero_and_one(stamps):
    full = np.pad(stamps, ((0, 0), (0, 0), (15, 15), (15, 15)), mode="edge")
    pair = InputSpec(channels=("srch", "tmpl"), stacking="depth").prepare(full).numpy()
    axes = scaled_violins_figure(pair, TITLES).axes[0]
    dashed = {line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"}
    assert dashed == {0, 1}
    top = max(np.max(line.get_ydata()) for line in axes.lines)
    assert top == pytest.approx(pair.max(), rel=1e-5)
    assert axes.get_xticklabels()[0].get_text() == "A"


def test_a_bright_star_does_not_smooth_the_sky_away():
    rng = np.random.default_rng(1)
    sky = rng.normal(0, 1, 2500)
    grid = np.linspace(-4, 4, 400)
    alone = _density(sky, grid)
    with_star = _density(np.concatenate([sky, rng.normal(3000, 10, 60)]), grid)
    assert np.trapezoid(alone, grid) == pytest.approx(1, abs=0.02)
    assert with_star.max() > 0.8 * alone.max()


@pytest.mark.parametrize(
    "draw", [triplets_figure, histograms_figure, raw_violins_figure, scaled_violins_figure]
)
def test_no_stamps_and_constant_stamps_are_drawn_all_the_same(draw, tmp_path):
    channels = 2 if draw is scaled_violins_figure else 3
    save_figure(draw(np.empty((0, channels, 21, 21)), []), tmp_path / "none", ("png",))
    save_figure(draw(np.ones((1, channels, 21, 21)), ["flat"]), tmp_path / "flat", ("png",))
    assert len(list(tmp_path.iterdir())) == 2


def test_heat_maps_show_each_setting_in_its_place():
    tried = {(5, 3, 3, 100): 0.898, (7, 5, 3, 100): 0.9, (7, 5, 3, 200): 0.8958}
    figure = kernels_figure({"paper": tried, "here": {(5, 3, 3, 100): np.nan}})
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [
        f"{name}, batch size {batch}" for name in ("paper", "here") for batch in (100, 200)
    ]
    words = [[text.get_text() for text in axes.texts] for axes in panels]
    # Rows are kernel 1 (5, 7), columns kernels 2 and 3 (3, 3 and 5, 3).
    assert words == [["89.8", "×", "×", "90.0"], ["×", "×", "×", "89.6"], ["×"] * 4, ["×"] * 4]
    assert len(kernels_figure({}).axes) == 1
