"""What one training has at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rb.models.contract import Provenance, TrainingSet
from rb.stamps import StampSet
from rb.stamps.splits import Split
from rb.tracking import TrackedRun, git_commit
from rb.version import __version__


def searches_images(config: Mapping[str, Any]) -> bool:
    """Whether the model of a configuration searches images, instead of judging stamps."""
    return bool(config["model"].get("task") == "scan")


@dataclass(frozen=True)
class TrainingJob:
    """One training: what is to be learned, from what, and where it is recorded.

    Attributes
    ----------
    config : mapping
        Resolved settings, as composed from ``conf/train.yaml``.
    stamp_set : StampSet
        The candidates.
    split : Split
        Which of them train, validate and test.
    inputs : InputSpec or FeatureInputs
        What the model is fed.
    run : TrackedRun
        Where the training is recorded.
    console : Console
        Where progress goes.
    name : str
        How messages and figures call it.
    """

    config: Mapping[str, Any]
    stamp_set: StampSet
    split: Split
    inputs: Any
    run: TrackedRun
    console: Console
    name: str

    @property
    def folder(self) -> Path:
        """Folder of its checkpoints."""
        return self.run.tracking.checkpoints(self.run.run_id)

    @property
    def provenance(self) -> Provenance:
        """Where the model that it trains comes from."""
        return Provenance(
            self.config["model"]["name"],
            self.run.run_id,
            TrainingSet.of(self.stamp_set, self.split),
            code_version=git_commit() or __version__,
        )
