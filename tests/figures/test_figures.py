from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from rb.errors import UserError
from rb.figures.classification.completeness import completeness_figure
from rb.figures.classification.confusion import confusion_figure
from rb.figures.classification.curves import curves_figure
from rb.figures.classification.roc import roc_figure, tradeoff_figure
from rb.figures.classification.scores import calibration_figure, score_figure
from rb.figures.data.stamps import stamp_page
from rb.figures.style import RUN_COLORS, figure_bytes, save_figure
from rb.metrics.binned import calibration_bins, rates_by_property
from rb.metrics.classification import ConfusionMatrix, confusion, evaluate_scores, roc


def scores(separation: float, n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    logits = np.where(labels == 0, separation, -separation) + rng.normal(0, 1.5, n)
    return labels, 1 / (1 + np.exp(-logits))


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def history(epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "train/loss": 1 / epoch,
            "train/acc": 1 - 0.5 / epoch,
            "val/loss": 1.2 / epoch,
            "val/acc": 0.95 - 0.5 / epoch - 0.1 * (epoch > 6),
        }
    )


def test_roc_draws_the_curves_and_their_areas():
    sets = {"dia": scores(2.5), "nodia": scores(1.2)}
    figure = roc_figure({name: roc(*pair) for name, pair in sets.items()})
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    for index, (name, pair) in enumerate(sets.items()):
        area = evaluate_scores(*pair)["auc"].value
        line = lines[f"{name}: AUC {area:.3f}"]
        curve = roc(*pair)
        np.testing.assert_array_equal(line.get_xdata(), curve.fpr)
        np.testing.assert_array_equal(line.get_ydata(), curve.tpr)
        assert line.get_color() == RUN_COLORS[index]
    # The circles stand where the confusion matrix at .5 puts them.
    marks = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    for mark, pair in zip(marks, sets.values(), strict=True):
        matrix = confusion(*pair)
        assert mark.get_ydata()[0] == pytest.approx(matrix.tp / matrix.n_real)
        assert mark.get_xdata()[0] == pytest.approx(matrix.fp / matrix.n_bogus)
    inset = axes.child_axes[0]
    assert inset.get_xlim()[0] == 0 and inset.get_ylim()[1] == 1
    assert len(axes.lines) == 6  # two curves, two marks, the mark's legend, the diagonal


def test_long_curves_are_thinned_without_moving():
    curve = roc(*scores(0.5, 60_000))
    assert curve.fpr.size > 5000
    line = roc_figure({"x": curve}).axes[0].lines[0]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert x.size <= 1502 and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(np.linspace(0, 1, 99), x, y) - np.interp(
        np.linspace(0, 1, 99), curve.fpr, curve.tpr)).max() < 3e-3  # fmt: skip


def test_tradeoff_is_missed_against_false():
    curve = roc(*scores(1.5))
    axes = tradeoff_figure({"x": curve}).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "x")
    some = (curve.fpr > 0) & (curve.tpr < 1)
    np.testing.assert_allclose(line.get_ydata(), 1 - curve.tpr[some])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xlim() == axes.get_ylim()


def test_confusion_has_the_papers_layout():
    figure = confusion_figure({"DIA": ConfusionMatrix(9571, 507, 270, 9652)})
    axes = figure.axes[0]
    fields = {tuple(p.get_xy()): p.get_facecolor() for p in axes.patches}
    words = {(t.get_text(), round(t.get_position()[0]), round(t.get_position()[1]))
             for t in axes.texts}  # fmt: skip
    found = {text for text, _, _ in words}
    assert {"TP", "FN", "FP", "TN", "95 %", "5 %", "3 %", "97 %", "9,571", "507"} <= found
    at = {t.get_text(): t.get_position() for t in axes.texts}
    # The y axis points down: real above bogus, called real left of called bogus.
    assert axes.get_ylim() == (2, 0)
    assert at["9,571"][0] < 1 < at["507"][0] and at["9,571"][1] < 1 < at["270"][1]
    assert at["9,652"][0] > 1 and at["9,652"][1] > 1

    def blue(color: tuple[float, ...]) -> bool:
        return color[2] > color[0]

    assert blue(fields[0, 0]) and blue(fields[1, 1])
    assert not blue(fields[1, 0]) and not blue(fields[0, 1])
    assert sum(fields[0, 0][:3]) < sum(fields[1, 1][:3])  # darker for truly real
    assert axes.get_xlabel() == "predicted" and axes.get_ylabel() == "true label"


def test_confusion_of_many_runs_and_of_an_absent_class():
    figure = confusion_figure({f"r{k}": ConfusionMatrix(k, 1, 0, 0) for k in range(4)})
    assert sum(ax.axison for ax in figure.axes) == 4
    assert texts(figure).count("–") == 8
    assert "0 %" not in texts(confusion_figure({"x": ConfusionMatrix(9999, 1, 5, 5)}))


def test_curves_follow_the_history():
    table = history(12)
    figure = curves_figure({"dia": table, "nodia": history(3)})
    loss, _, accuracy, _ = figure.axes
    by_label = {line.get_label(): line for line in loss.lines}
    np.testing.assert_array_equal(by_label["training"].get_ydata(), table["train/loss"])
    np.testing.assert_array_equal(by_label["validation"].get_ydata(), table["val/loss"])
    train, val = by_label["training"].get_color(), by_label["validation"].get_color()
    assert int(train[3:5], 16) > int(train[1:3], 16)  # green
    assert int(val[3:5], 16) < int(val[1:3], 16) < int(val[5:7], 16)  # purple
    assert "best validation 86.7 %, epoch 6" in texts(figure)
    assert accuracy.get_ylabel() == "accuracy" and accuracy.get_ylim()[1] <= 1


def test_curves_without_validation_and_of_one_epoch():
    table = history(1).drop(columns=["val/loss", "val/acc"])
    figure = curves_figure({"x": table})
    assert len(figure.axes[0].lines) == 1 and figure.axes[0].lines[0].get_marker() == "o"
    assert "no training history" in texts(curves_figure({}))


def test_histograms_count_every_stamp():
    labels, p_real = scores(1.0)
    figure = score_figure({"x": (labels, p_real)}, {"x": 0.7})
    axes = figure.axes[0]
    assert {f"bogus ({(labels == 1).sum():,})", f"real ({(labels == 0).sum():,})"} <= set(
        texts(figure)
    )
    assert axes.get_yscale() == "log" and axes.get_xlim() == (0, 1)
    assert [line.get_xdata()[0] for line in axes.lines] == [0.7]
    heights = [patch.get_xy()[:, 1].max() for patch in axes.patches]
    expected = [np.histogram(p_real[labels == c], np.linspace(0, 1, 41))[0].max() for c in (1, 0)]
    assert heights == [expected[0], expected[0], expected[1], expected[1]]


def test_calibration_of_honest_scores_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    p_real = rng.random(20_000)
    labels = np.where(rng.random(20_000) < p_real, 0, 1)
    top, below = calibration_figure({"x": calibration_bins(labels, p_real, 10)}).axes
    line = top.containers[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(orig=False), line.get_ydata(orig=False), atol=0.04)
    assert len(line.get_xdata()) == 10
    assert below.patches[0].get_data().values.sum() == 20_000


def test_completeness_rates_and_axes():
    labels, p_real = scores(1.0, 4000)
    rng = np.random.default_rng(1)
    magnitude, snr = rng.uniform(20, 25, 4000), rng.lognormal(2, 0.7, 4000)
    magnitude[:50] = np.nan
    rates = rates_by_property(
        {"magnitude": magnitude, "SNR": snr}, labels, {"x": p_real}, {"x": 0.5}, ["SNR"]
    )
    figure = completeness_figure(rates, ["SNR"])
    assert len(figure.axes) == 4
    complete, pure, complete_snr, _ = figure.axes
    # Independent of magnitude here, so each bin has the rate of the whole within its error.
    matrix = confusion(labels, p_real)
    for panel, rate in (
        (complete, matrix.tp / matrix.n_real),
        (pure, matrix.tp / (matrix.tp + matrix.fp)),
    ):
        line = panel.containers[0].lines[0]
        assert len(line.get_xdata()) == 10
        np.testing.assert_allclose(line.get_ydata(orig=False), rate, atol=0.09)
    assert complete_snr.get_xscale() == "log" and complete.get_xscale() == "linear"
    assert complete.get_ylabel() == "completeness (TPR)" and pure.get_ylabel() == "purity"


def test_completeness_without_the_property():
    labels, p_real = scores(1.0, 20)
    unknown = {"SNR": np.full(20, np.nan)}
    figure = completeness_figure(rates_by_property(unknown, labels, {"x": p_real}, {"x": 0.5}))
    assert "no labelled stamp has a SNR" in texts(figure)


def triplets(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    stamps = rng.normal(0, 1, (n, 3, 51, 51)).astype(np.float32)
    stamps[:, 1:, 24:27, 24:27] += 100
    return stamps


def test_page_shows_each_channel_of_each_stamp():
    stamps = triplets(4)
    figure = stamp_page(stamps, [f"stamp {k}" for k in range(4)], columns=3, title="Page $1")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == [f"stamp {k}" for k in range(4)]
    for stamp, axes in zip(stamps, shown, strict=True):
        for image, pixels in zip(axes.images, stamp, strict=True):
            np.testing.assert_allclose(np.asarray(image.get_array()), pixels, rtol=1e-6)
        diff, srch, tmpl = (image.get_clim() for image in axes.images)
        assert diff[0] == -diff[1] and srch == tmpl
        lefts = [image.get_extent()[0] for image in axes.images]
        assert lefts == sorted(lefts)
    assert {"diff", "srch", "tmpl"} <= set(texts(figure))
    figure_bytes(figure)


def test_page_of_two_channels_and_own_ranges():
    stamps = triplets(1)
    stamps[:, 2] = 50 * stamps[:, 2] + 5000  # another sky
    axes = stamp_page(stamps, channels=("srch", "tmpl")).axes[0]
    srch, tmpl = (image.get_clim() for image in axes.images)
    assert tmpl[1] > 10 * srch[1]
    assert "diff" not in texts(axes.figure)


def test_absent_channel_nan_and_masked_pixels():
    stamps = triplets(1)
    stamps[0, 0] = np.nan
    stamps[0, 1, 3, 4] = np.nan
    stamps[0, 2, 7, 8] = 1e-30
    figure = stamp_page(stamps)
    images = figure.axes[0].images
    assert len(images) == 2 and "no diff" in texts(figure)
    masks = [np.argwhere(np.ma.getmaskarray(image.get_array())).tolist() for image in images]
    assert masks == [[[3, 4]], [[7, 8]]]
    figure_bytes(figure)


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_constant_stamps_are_drawn(value):
    figure_bytes(stamp_page(np.full((1, 3, 51, 51), value)))


def test_other_sizes_are_drawn_and_wrong_shapes_refused():
    figure_bytes(stamp_page(triplets(2)[:, :, :40, :]))
    with pytest.raises(ValueError, match="cannot draw"):
        stamp_page(np.zeros((3, 51, 51)))
    with pytest.raises(ValueError, match="cannot draw"):
        stamp_page(triplets(1), channels=("science",))


EMPTY = [
    lambda: roc_figure({}),
    lambda: tradeoff_figure({}),
    lambda: confusion_figure({}),
    lambda: score_figure({}, {}),
    lambda: calibration_figure({}),
    lambda: curves_figure({}),
    lambda: stamp_page(np.zeros((0, 3, 51, 51))),
    lambda: completeness_figure({}),
    # A class or all labels missing.
    lambda: roc_figure({"x": roc(np.array([0, 0]), np.array([0.1, 0.2]))}),
    lambda: tradeoff_figure({"x": roc(np.array([1]), np.array([0.1]))}),
    lambda: calibration_figure({"x": calibration_bins(np.array([-1]), np.array([0.5]))}),
    lambda: score_figure({"x": (np.array([-1]), np.array([0.5]))}, {"x": 0.5}),
]


@pytest.mark.parametrize("make", EMPTY)
def test_nothing_to_draw_is_drawn_as_such(make):
    assert figure_bytes(make(), "png", 50)[:4] == b"\x89PNG"


def test_names_are_not_read_as_math():
    name = r"$\frac{a}{ _x^ 100% $5"
    figure_bytes(roc_figure({name: roc(*scores(1.0, 200))}))
    figure_bytes(confusion_figure({name: ConfusionMatrix(1, 2, 3, 4)}))
    figure_bytes(stamp_page(triplets(1), [name], title=name))


def test_saving_writes_the_same_bytes_each_time(tmp_path):
    figure = confusion_figure({"x": ConfusionMatrix(1, 2, 3, 4)})
    files = save_figure(figure, tmp_path / "new" / "matrix.v2", ("png", "pdf", "svg"))
    assert [f.name for f in files] == ["matrix.v2.png", "matrix.v2.pdf", "matrix.v2.svg"]
    first = [f.read_bytes() for f in files]
    assert first[0][:4] == b"\x89PNG" and first[1][:4] == b"%PDF"
    again = save_figure(
        confusion_figure({"x": ConfusionMatrix(1, 2, 3, 4)}),
        tmp_path / "new" / "matrix.v2",
        ("png", "pdf", "svg"),
    )
    assert [f.read_bytes() for f in again] == first
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_saving_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_figure(confusion_figure({}), tmp_path / "file" / "x")


def test_no_pyplot_no_global_state():
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from rb.figures import style\n"
        "from rb.figures.classification import completeness, confusion, curves, roc, scores\n"
        "from rb.figures.data import stamps\n"
        "style.figure_bytes(roc.roc_figure({}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
        "assert all(matplotlib.rcParams[k] == before[k] for k in before if k != 'backend')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
