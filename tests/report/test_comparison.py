from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from results_factory import run_result
from rich.console import Console
from scipy.stats import binomtest

from rb.errors import UserError
from rb.evaluation.paired import compare, dia_against_nodia, networks_against_forest, pair
from rb.metrics import Estimate
from rb.metrics.numbers import percent
from rb.report.comparison import comparison_table, difference_image_sentence, mcnemar_sentence
from rb.report.terminal import print_comparison


def from_outcomes(name: str, inputs: str, right: list[bool]):
    """A run over half real, half bogus stamps that is right where `right` says so."""
    right_ = np.array(right)
    labels = np.arange(right_.size) % 2
    p_real = np.where(right_ == (labels == 0), 0.9, 0.1)
    return run_result(name, inputs, ids=np.arange(right_.size), labels=labels, p_real=p_real)


@pytest.fixture
def two():
    #          both right   only first   only second  both wrong
    first = [True] * 60 + [True] * 20 + [False] * 6 + [False] * 4
    second = [True] * 60 + [False] * 20 + [True] * 6 + [False] * 4
    return from_outcomes("with", "dia", first), from_outcomes("without", "nodia", second)


def test_mcnemar_is_the_exact_binomial_test(two):
    result = compare(*two)
    assert (result.both_right, result.only_first, result.only_second, result.both_wrong) == (
        60, 20, 6, 4,
    )  # fmt: skip
    assert result.mcnemar_p == pytest.approx(binomtest(6, 26).pvalue)
    assert result.accuracy.value == pytest.approx(14 / 90)
    # Bonett & Price: shares 21/92 and 7/92.
    centre, spread = 14 / 92, 28 / 92
    half = 1.959964 * math.sqrt((spread - centre**2) / 92)
    assert (result.accuracy.low, result.accuracy.high) == pytest.approx(
        (centre - half, centre + half), abs=1e-6
    )


def test_swapping_the_runs_turns_the_sign(two):
    there, back = compare(*two), compare(*reversed(two))
    assert back.mcnemar_p == pytest.approx(there.mcnemar_p)
    for key in ("accuracy", "tpr", "tnr", "auc"):
        a, b = getattr(there, key), getattr(back, key)
        assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low))


def test_class_differences_add_up():
    comparison = compare(
        run_result("a", "dia", separation=3.0), run_result("b", "nodia", separation=1.0)
    )
    is_real = comparison.first.labels == 0
    weighted = comparison.tpr.value * is_real.mean() + comparison.tnr.value * (~is_real).mean()
    assert weighted == pytest.approx(comparison.accuracy.value)
    assert comparison.accuracy.low > 0 and comparison.auc.low > 0 and comparison.auc_p < 1e-6


def test_runs_are_joined_by_id_not_by_position():
    first = run_result("a", "dia", n=500)
    order = np.random.default_rng(0).permutation(500)
    shuffled = replace(
        first, ids=first.ids[order], labels=first.labels[order], p_real=first.p_real[order]
    )
    result = compare(first, shuffled)
    assert (result.only_first, result.only_second, result.mcnemar_p) == (0, 0, 1.0)
    assert result.auc.value == 0


def test_common_subset_and_what_is_left_out():
    first, second = run_result("a", "dia", n=100), run_result("b", "nodia", n=80)
    paired = pair(first, second)
    assert paired.ids.size == 80 and paired.left_out == 20
    assert "20 stamps that only one of them scored" in mcnemar_sentence(compare(first, second))
    with pytest.raises(UserError, match="20 are in only one"):
        compare(first, second, require_same=True)


def test_runs_that_cannot_be_compared():
    first = run_result("a", "dia", n=100)
    with pytest.raises(UserError, match="no stamp in common"):
        compare(first, replace(first, ids=first.ids + 1000))
    with pytest.raises(UserError, match="label of 100 stamps"):
        compare(first, replace(first, labels=1 - first.labels))


def test_each_run_has_its_own_threshold():
    first = run_result("a", "dia", n=400)
    strict = replace(first, threshold=0.99)
    result = compare(first, strict)
    assert result.tpr.value > 0 > result.tnr.value
    assert result.auc.value == 0


def test_unlabelled_stamps_are_paired_but_not_counted():
    first = run_result("a", "dia", n=100, labels=np.full(100, -1))
    result = compare(first, first)
    assert result.n == 0 and math.isnan(result.mcnemar_p) and not result.accuracy.defined
    assert dia_against_nodia([first, replace(first, inputs="nodia")]) is None


def test_table(two):
    unknown_cost = replace(two[1], cost={})
    table = comparison_table([two[0], unknown_cost])
    assert list(table.index) == ["with", "without"]
    assert table.loc["with", "accuracy"] == pytest.approx(80 / 90)
    assert table.loc["with", "parameters"] == 45908
    assert math.isnan(table.loc["without", "ms_per_stamp"])
    row = table.loc["with"]
    assert row["accuracy_half_width"] == pytest.approx(
        (row["accuracy_high"] - row["accuracy_low"]) / 2
    )
    assert {"auc_low", "mdr_at_fpr_0.05", "train_cpu_hours", "epochs"} <= set(table.columns)


def test_equal_names_are_told_apart():
    first, second = run_result("x", "dia", n=50), run_result("x", "nodia", n=50)
    names = list(comparison_table([first, second, second]).index)
    assert len(set(names)) == 3
    assert all(name.startswith("x (") for name in names)


def printed(results, width=100) -> str:
    stream = io.StringIO()
    print_comparison(results, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def test_print_side_by_side():
    text = printed(
        [run_result("with", "dia", separation=3.0), run_result("without", "nodia", separation=1.5)]
    )
    assert max(len(line) for line in text.splitlines()) <= 100
    for expected in (
        "with",
        "without",
        "accuracy",
        "AUC",
        "MDR at FPR 0.05",
        "CPU-hours",
        "ms per",
    ):
        assert expected in text
    flat = " ".join(text.split())
    assert "McNemar's exact test on 2,000 shared stamps" in flat
    assert flat.endswith("without.")
    assert "The difference image is worth" in flat


def test_many_runs_get_a_row_each():
    names = [f"kernel={k}_batch=100" for k in range(19)]
    runs = [run_result(name, "nodia", n=200, separation=k / 5) for k, name in enumerate(names)]
    text = printed(runs)
    assert max(len(line) for line in text.splitlines()) <= 100
    order = [line.split("│")[1].strip() for line in text.splitlines() if "kernel=" in line]
    assert order[0] in names[14:] and len(order) == 19
    assert "cannot be said" in text


def test_names_are_not_read_as_markup():
    text = printed([run_result("[red]a[/red] [/]", "dia", n=100)])
    assert "[red]a[/red] [/]" in text


def test_sentence_follows_the_evidence():
    strong, weak = run_result("a", "dia"), run_result("b", "nodia", separation=1.0)
    assert difference_image_sentence([strong, weak]).startswith("The difference image is worth")
    reverse = difference_image_sentence(
        [replace(strong, inputs="nodia"), replace(weak, inputs="dia")]
    )
    assert "without the difference image is better" in reverse
    same = difference_image_sentence([strong, replace(strong, inputs="nodia", name="b")])
    assert "no difference" in same
    assert "cannot be said" in difference_image_sentence([strong])


def test_the_best_run_of_each_kind_is_chosen_by_validation():
    good, lucky = (run_result(name, "dia", separation=s) for name, s in (("a", 2.0), ("b", 3.0)))
    better = good.history.assign(**{"val/acc": good.history["val/acc"] + 0.01})
    runs = [lucky, run_result("nodia", "nodia", separation=1.5), replace(good, history=better)]
    comparison = dia_against_nodia(runs)
    assert comparison is not None
    assert (comparison.first.name, comparison.second.name) == ("a", "nodia")


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.961, 0.9583, 0.9637), "96.1 ± 0.3 %"),
        (Estimate(0.96104, 0.96064, 0.96144), "96.10 ± 0.04 %"),
        (Estimate(1.0, 0.9, 1.0), "100.0 −10.0 +0.0 %"),
        (Estimate(math.nan, math.nan, math.nan), "–"),
    ],
)
def test_shares_are_written_as_a_person_would(estimate, text):
    assert percent(estimate) == text


def test_nothing_to_print():
    assert "No run" in printed([])


def test_ids_of_different_sets_are_not_the_same_candidates(capsys):
    """Two simulated surveys number their candidates alike."""
    dia = run_result("dia", "dia", n=400)
    nodia = run_result("nodia", "nodia", n=400, separation=1.5)
    elsewhere = replace(nodia, data_digest="sha256:5678")
    with pytest.raises(UserError, match="different stamp sets .digests sha256:1234, sha256:5678"):
        pair(dia, elsewhere)
    assert dia_against_nodia([dia, nodia]) is not None
    assert dia_against_nodia([dia, elsewhere]) is None
    console = Console(file=io.StringIO(), width=200)
    print_comparison([dia, elsewhere], console)
    said = console.file.getvalue()
    assert "different stamp sets" in said
    assert "McNemar" not in said


def test_networks_are_set_against_the_forest():
    dia = run_result("dia", "dia", n=400)
    nodia = run_result("nodia", "nodia", n=400, separation=1.5)
    forest = run_result("autoscan", "features", n=400, separation=2.5)
    found = networks_against_forest([forest, nodia, dia])
    assert [(c.first.name, c.second.name) for c in found] == [
        ("dia", "autoscan"),
        ("nodia", "autoscan"),
    ]
    assert networks_against_forest([dia, nodia]) == []
    console = Console(file=io.StringIO(), width=200)
    print_comparison([dia, nodia, forest], console)
    said = console.file.getvalue()
    assert said.count("McNemar's exact test") == 3
    assert "autoscan features" in said
