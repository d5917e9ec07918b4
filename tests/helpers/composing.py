"""Configurations as the command lines compose them, and their runs in this process."""

from __future__ import annotations

import io
from typing import Any

from hydra import compose, initialize_config_dir
from rich.console import Console
from toys import REPOSITORY, TINY

from rb.config import register_resolvers, resolved
from rb.tracking import Tracking


def composed(script: str, *overrides: str) -> dict[str, Any]:
    """What ``python <script>.py <overrides>`` works with."""
    register_resolvers()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return resolved(compose(script, list(overrides)))


def quiet() -> Console:
    """A console that keeps what is printed to itself."""
    return Console(file=io.StringIO(), width=200)


def train_tiny(root, model: str, *overrides: str, tags: dict[str, str] | None = None) -> None:
    """Train a tiny network on the stamp set ``root/set``."""
    from rb.training.job import train

    config = composed(
        "train", f"model={model}", *TINY, "data=stamps", f"data.path={root / 'set'}",
        f"paths.root={root}", *overrides,
    )  # fmt: skip
    train(config, console=quiet(), more_tags=tags)


def tracking_of(root) -> Tracking:
    return Tracking(None, root / "mlruns", "rb")
