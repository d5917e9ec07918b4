"""Which labels are likely wrong, from networks that have not seen the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.scored_run import ScoredRun, score_runs
from rb.figures.style import LABEL_WORDS
from rb.labels.confident import ConfidentJoint
from rb.labels.suspects import SET_KEY, Scores, rank_suspects, write_suspects
from rb.metrics.intervals import proportion
from rb.report.sections import Picture, Section
from rb.stamps import StampSet
from rb.stamps.layout import BOGUS, REAL, UNKNOWN
from rb.tracking import Tracking

_FEW = 20  # suspects listed in the report; the table has all


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """Score, rank, write the table of suspects, and show the worst of them.

    Raises
    ------
    UserError
        If runs are to be asked about candidates that they were trained on, belong to different
        stamp sets, or nothing is labelled.
    """
    settings = config["study"]
    pictures = settings["pictures"]
    if isinstance(pictures, bool) or not isinstance(pictures, int) or pictures < 0:
        raise UserError(f"study.pictures is {pictures}; give a whole number")
    if config["subset"] not in (None, "test"):
        raise UserError(
            f"subset={config['subset']}: suspects need candidates that a network was not trained "
            "on; leave subset out"
        )
    evaluated = score_runs(config | {"timing": False, "subset": None}, tracking, console)
    stamps = _one_set(evaluated)
    scores = [Scores(e.rows, e.result.p_real) for e in evaluated]
    table, joint = rank_suspects(stamps.ids, stamps.labels, scores)
    path = Path(settings["table"])
    n_labelled = int(np.sum(stamps.labels != UNKNOWN))
    write_suspects(
        table,
        path,
        {
            SET_KEY: str(stamps.path),
            "digest": stamps.digest,
            "stamps_digest": stamps.stamps_digest,
            "runs": [e.chosen.run_id for e in evaluated],
            "n_labelled": n_labelled,
        },
    )
    covered = _coverage(evaluated, len(table), n_labelled)
    console.print(covered)
    console.print(
        f"{int(table['suspect'].sum()):,} suspects, ranked among {len(table):,} candidates in "
        f"{path}; look at them with: rb labels review {path}"
    )
    return [_found(table, joint, covered, path), *_pictures(table, stamps, pictures)]


def _one_set(evaluated: list[ScoredRun]) -> StampSet:
    first = evaluated[0]
    for one in evaluated:
        name = one.chosen.name
        if one.stamp_set.digest != first.stamp_set.digest:
            raise UserError(
                f"runs: {name} and {first.chosen.name} belong to different stamp sets or "
                "labels; name the runs of one sweep"
            )
    return first.stamp_set


def _coverage(evaluated: list[ScoredRun], n: int, n_labelled: int) -> str:
    """How much of the set the runs cover, and which folds are missing."""
    text = f"{n:,} of {n_labelled:,} labelled candidates have an out-of-fold score"
    if n == n_labelled:
        return text + "."
    splits = [(e.chosen.config or {}).get("split", {}) for e in evaluated]
    folds = {s.get("folds") for s in splits}
    if len(folds) == 1 and (k := next(iter(folds))):
        left = sorted(set(range(k)) - {s["fold"] for s in splits})
        if left:
            missing = ",".join(map(str, left))
            return (
                f"{text}; the rest is not ranked, because split.fold={missing} "
                f"of split.folds={k} is not among the runs."
            )
    return (
        f"{text}; the rest is not ranked. A sweep with split.folds=5 split.fold=0,1,2,3,4 "
        "covers all."
    )


def _found(table: pd.DataFrame, joint: ConfidentJoint, covered: str, path: Path) -> Section:
    from rb.figures.studies.suspects import suspects_figure

    labels = table["label"].to_numpy()
    p_real = table["p_real"].to_numpy()
    noise = joint.noise(labels)
    called = np.where(p_real >= 0.5, REAL, BOGUS)
    rows = []
    for label in (REAL, BOGUS):
        own = labels == label
        contradicted = proportion(int(np.sum(own & (called != label))), int(own.sum()))
        rows.append(
            {
                "label": LABEL_WORDS[label],
                "candidates": int(own.sum()),
                "mean p of the label": f"{joint.thresholds[label]:.3f}",
                "contradicted by the networks": f"{100 * contradicted.value:.1f} %",
                "suspects": int(np.sum(own & joint.suspects)),
                "labels wrong at most, estimated": f"{100 * noise[label]:.1f} %",
            }
        )
    first = table.loc[table["suspect"]].head(_FEW)
    listed = first[["rank", "id", "label", "suggested", "p_real"]].assign(
        label=first["label"].map(LABEL_WORDS),
        suggested=first["suggested"].map(LABEL_WORDS),
        p_real=first["p_real"].map("{:.4f}".format),
    )
    return Section(
        "suspects",
        "Labels that the networks contradict",
        [
            covered,
            "A candidate is confidently of a class if its out-of-fold probability of it reaches "
            "the mean that candidates with that label have; a suspect is confidently of the class "
            "that its label denies (confident learning, Northcutt et al. 2021). What the networks "
            "get wrong by themselves is among the suspects, so the estimated share of wrong labels "
            "is an upper limit, and a suspect is a candidate to look at, not a wrong label.",
            f"All ranked candidates: {path}. To look at the suspects: rb labels review {path}",
        ],
        [
            Picture(
                "suspects_scores",
                suspects_figure(labels, p_real, joint.suspects, joint.thresholds),
                "Out-of-fold scores by label. Filled: suspects. Dashed: beyond this line a "
                "candidate is confidently of the other class.",
            )
        ],
        {"By label": pd.DataFrame(rows), f"The first {len(listed)} suspects": listed},
    )


def _pictures(table: pd.DataFrame, stamps: StampSet, n: int) -> list[Section]:
    from rb.figures.data.stamps import stamp_page

    row_of = pd.Index(stamps.ids)
    found = []
    for label in (BOGUS, REAL):
        part = table[(table["label"] == label) & table["suspect"]].head(n)
        if part.empty or not n:
            continue
        rows = row_of.get_indexer(part["id"])
        other = LABEL_WORDS[1 - label]
        n_all = int(np.sum((table["label"] == label) & table["suspect"]))
        figure = stamp_page(
            np.stack([stamps[int(r)] for r in rows]),
            [
                f"{i}   p_real {p:.3f}"
                for i, p in zip(part["id"].tolist(), part["p_real"].tolist(), strict=True)
            ],
            stamps.channels,
            title=f"Labelled {LABEL_WORDS[label]}, suspected to be {other}: "
            f"the first {len(part)} of {n_all:,}",
        )
        found.append(
            Section(
                f"suspects_{LABEL_WORDS[label]}",
                f"Labelled {LABEL_WORDS[label]}, perhaps {other}",
                ["The most suspicious first."],
                [
                    Picture(
                        f"suspects_{LABEL_WORDS[label]}",
                        figure,
                        "id and mean out-of-fold p_real over each triplet.",
                        pixels=True,
                    )
                ],
            )
        )
    return found
