"""What `evaluate.py` does with a configuration, before anything heavy is imported."""

from __future__ import annotations

import sys
from typing import Any

from omegaconf import DictConfig

from rb.config import resolved
from rb.errors import UserError

_SUBSETS = (None, "test", "val", "train", "all")


def start(config: DictConfig) -> float:
    """Run a study; returns what a sweeper may maximise, the best accuracy of a comparison."""
    settings = resolved(config)
    check_evaluation(settings)
    print("starting …", file=sys.stderr)
    from rb.studies.run import run_study

    return run_study(settings)


def check_evaluation(settings: dict[str, Any]) -> None:
    """Refuse settings that cannot work, with the key that is wrong."""
    if settings["subset"] not in _SUBSETS:
        raise UserError(f"subset is '{settings['subset']}'; choose test, val, train or all")
    threshold = settings["threshold"]
    if threshold is not None and not (_number(threshold) and 0 <= threshold <= 1):
        raise UserError(f"threshold is {threshold}; give a probability between 0 and 1")
    if not (_number(settings["confidence"]) and 0 < settings["confidence"] < 1):
        raise UserError(f"confidence is {settings['confidence']}; give e.g. 0.95")
    if not isinstance(settings["examples"], int) or settings["examples"] < 0:
        raise UserError(f"examples is {settings['examples']}; give a whole number")
    if not settings["runs"]:
        raise UserError("runs is empty; give latest, best, or IDs")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
