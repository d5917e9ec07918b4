"""Train a real/bogus network: ``python train.py --help``."""

import hydra
from omegaconf import DictConfig

from rb.hydra_job import job, run_command


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@job
def main(config: DictConfig) -> float | None:
    """Compose, check, train; the best validation accuracy goes back to the sweeper."""
    from rb.commands.train import start

    return start(config)


if __name__ == "__main__":
    run_command(main)
