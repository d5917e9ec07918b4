"""What `train.py` does with a configuration, before anything heavy is imported."""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rb.config import check_training, resolved


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
    """Name of a sweep's job: what tells it from its siblings, without the shared choices."""
    shared = ("experiment", "paths", "tracking", "data", "name")
    kept = [o for o in overrides if o.split("=", 1)[0].split(".")[0] not in shared]
    return " ".join(o.removeprefix("model=") for o in kept) or " ".join(overrides)
