"""Evaluate trained networks side by side: ``python evaluate.py --help``."""

import hydra
from omegaconf import DictConfig

from rb.hydra_job import job, run_command


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
@job
def main(config: DictConfig) -> float:
    """Compose, check, evaluate; the best accuracy goes back to a sweeper."""
    from rb.commands.evaluate import start

    return start(config)


if __name__ == "__main__":
    run_command(main)
