"""The section of a report that shows our scores beside those that a survey published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rb.evaluation.results import RunResult
from rb.evaluation.survey_scores import agreement, alike
from rb.report.sections import Picture, Section


def survey_score_sections(
    results: Sequence[RunResult], scores: Mapping[str, np.ndarray]
) -> list[Section]:
    """A section for each survey score; runs that scored other candidates are left out."""
    from rb.figures.classification.survey_score import survey_score_figure

    return [
        Section(
            f"against-{name}",
            f"Against the survey's {name}",
            [
                f"{name} is the score of the survey's own classifier. It is no truth: where the "
                "two differ, either can be wrong."
            ],
            [
                Picture(
                    f"against_{name}",
                    survey_score_figure(
                        survey,
                        {run: result.p_real for run, result in alike(results).items()},
                        name,
                    ),
                    f"p_real of each candidate against {name}.",
                )
            ],
            {f"Agreement with {name}": agreement(results, survey, name)},
        )
        for name, survey in scores.items()
    ]
