"""What `evaluate.py` does with a configuration, before anything heavy is imported."""

from __future__ import annotations

import sys
from typing import Any

from omegaconf import DictConfig

from rb.config import refuse_unknown, resolved
from rb.settings import FLAG, Choice, Either, Items, Number, OrNull, Rule, Text, Whole, check

_RUN = Text("latest, best, or an ID, name or file")
EVALUATION: dict[str, Rule] = {
    "runs": Either(Items(_RUN, least=1, single=True), _RUN),
    "subset": OrNull(Choice(("test", "val", "train", "all"))),
    "threshold": OrNull(Number(0, 1)),
    "confidence": Number(above=0, below=1),
    "examples": Whole(0),
    "timing": FLAG,
    "paths.root": Text("a folder"),
    "study.name": Text(),
}
"""What the settings of an evaluation may be."""


def start(config: DictConfig) -> float:
    """Run a study; returns what a sweeper may maximise, the best accuracy of a comparison."""
    settings = resolved(config)
    check_evaluation(settings)
    if settings["data"]["name"]:
        from rb.sources import check_settings

        check_settings(settings["data"])
    print("starting …", file=sys.stderr)
    from rb.studies.run import run_study

    return run_study(settings)


def check_evaluation(settings: dict[str, Any]) -> None:
    """Refuse settings that cannot work, with the key that is wrong."""
    runs = check(settings, EVALUATION)["runs"]
    refuse_unknown(settings, "evaluate", "study", "tracking")
    if not isinstance(settings["runs"], str):
        # An ID of digits alone is a number to the command line.
        settings["runs"] = [runs] if isinstance(runs, str) else list(runs)
