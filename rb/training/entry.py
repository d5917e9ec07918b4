"""What `train.py` does with a configuration, before anything heavy is imported."""

from __future__ import annotations

import os
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rb.config import check_training, resolved
from rb.training.sweep import SWEPT_VARIABLE


def start(config: DictConfig) -> float:
    """Train, or take up a run; returns the best validation accuracy."""
    hydra = HydraConfig.get()
    settings = resolved(config)
    check_training(settings)
    # Importing torch, lightning and MLflow takes seconds: say something first.
    print("starting …", file=sys.stderr)
    from rb.training.run import resume, train

    if settings["run"] is not None:
        return resume(settings, list(hydra.overrides.task))
    sweep = hydra.mode == RunMode.MULTIRUN
    return train(settings, name=_job_name(list(hydra.overrides.task)) if sweep else None)


def _job_name(overrides: list[str]) -> str:
    """Name of a sweep's job: the settings that tell it from its siblings."""
    swept = os.environ.get(SWEPT_VARIABLE, "").split()
    own = [o for o in overrides if o.split("=", 1)[0].lstrip("+") in swept]
    return " ".join(o.removeprefix("model=") for o in own)
