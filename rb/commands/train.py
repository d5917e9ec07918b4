"""What `train.py` does with a configuration, before anything heavy is imported."""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rb.config import check_training, resolved


def start(config: DictConfig) -> float | None:
    """Train, or take up a run; returns the best validation accuracy, None for a failed job."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        from rb.sweeps.jobs import sweep_job

        return sweep_job(config)
    settings = resolved(config)
    check_training(settings)
    if settings["run"] is None:
        from rb.sources import check_settings

        check_settings(settings["data"])
    # Importing torch, lightning and MLflow takes seconds: say something first.
    print("starting …", file=sys.stderr)
    from rb.training.job import resume, train

    if settings["run"] is not None:
        return resume(settings, list(hydra.overrides.task))
    return train(settings)
