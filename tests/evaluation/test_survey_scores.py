"""Our scores beside those of a survey."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from results_factory import run_result

from rb.evaluation.survey_scores import agreement, survey_scores
from rb.report.survey_scores import survey_score_sections


def test_scores_of_the_catalogue_follow_the_rows():
    catalogue = pd.DataFrame({"drb": [0.1, None, 0.9], "rb": [None] * 3, "mag": [20.0] * 3})
    found = survey_scores(catalogue, np.array([2, 1]))
    assert found.keys() == {"drb"}
    np.testing.assert_array_equal(found["drb"], [0.9, np.nan])


def test_agreement_is_the_rank_correlation_where_both_have_a_score():
    run = run_result(n=200)
    survey = run.p_real**3
    survey[:50] = np.nan
    table = agreement([run, replace(run, name="turned", p_real=1 - run.p_real)], survey, "drb")
    assert table["candidates"].tolist() == [150, 150]
    assert table["Spearman"].tolist() == pytest.approx([1, -1])
    sure = run.p_real[50:][survey[50:] >= 0.9]
    assert table["median p_real, drb ≥ 0.9"][0] == pytest.approx(np.median(sure))


def test_no_scores_no_numbers():
    run = run_result(n=20)
    assert np.isnan(agreement([run], np.full(20, np.nan), "rb")["Spearman"][0])
    assert np.isnan(agreement([run], np.full(20, 0.5), "rb")["Spearman"][0])


@pytest.mark.parametrize("n", [40, 3000])
def test_the_section_shows_every_run_on_the_same_candidates(n):
    runs = [run_result(n=n), run_result("nodia", "nodia", n=n), run_result("other", n=10)]
    (section,) = survey_score_sections(runs, {"drb": np.linspace(0, 1, n)})
    panels = section.pictures[0].figure.axes
    assert [p.get_title() for p in panels] == ["dia", "nodia"]
    assert panels[0].get_xlabel() == "drb of the survey"
    drawn = panels[0].collections if n > 2000 else panels[0].lines[1:]
    assert len(drawn) == 1
