"""A trained network as a thing to use: weights, inputs, threshold and where it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rb.errors import UserError
from rb.models.build import build_network
from rb.models.classifier import PACKAGE_FORMAT
from rb.stamps.batch import Stamps
from rb.stamps.inputs import InputSpec
from rb.stamps.stampset import StampSet


@dataclass(frozen=True)
class TrainedModel:
    """A network with all that is needed to feed it and to read what it says.

    Attributes
    ----------
    network : Module
        In evaluation mode; what `InputSpec.tensors` prepares in, logits (N, 2) out.
    inputs : InputSpec
        What the network is fed.
    threshold : float
        Candidates with p_real at or above it are called real.
    facts : dict
        Name, training set and its digest, split, labels: what the checkpoint says.
    """

    network: nn.Module
    inputs: InputSpec
    threshold: float
    facts: dict[str, Any]

    def p_real(self, stamps: np.ndarray | Stamps, batch_size: int = 512) -> np.ndarray:
        """Probability of being real, float32 (N,), of raw stamps (N, 3, S, S).

        Raises
        ------
        UserError
            If the stamps have another shape, or lack what the network takes beside them.
        """
        out = np.empty(len(stamps), dtype=np.float32)
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(stamps), batch_size):
                rows = slice(start, start + batch_size)
                tensors = (x.to(device) for x in self.inputs.tensors(stamps[rows]))
                out[rows] = self.network(*tensors).softmax(1)[:, 0].cpu().numpy()
        return out

    def score(self, stamp_set: StampSet, rows: np.ndarray | None = None) -> np.ndarray:
        """p_real of `rows` (all by default) of a stamp set, read piece by piece."""
        self.inputs.check(stamp_set)
        rows = np.arange(len(stamp_set)) if rows is None else np.asarray(rows)
        out = np.empty(len(rows), dtype=np.float32)
        order = np.argsort(rows)
        for start in range(0, len(rows), 4096):
            part = order[start : start + 4096]
            out[part] = self.p_real(stamp_set.read(rows[part], self.inputs))
        return out

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.network.parameters())


def load_model(path: str | os.PathLike[str]) -> TrainedModel:
    """Load a checkpoint that `train.py` wrote. Nothing in the file is executed.

    Raises
    ------
    UserError
        If the file is missing, damaged, or not such a checkpoint.
    """
    path = Path(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # torch raises a different type for each kind of damage
        raise UserError(
            f"{path}: damaged, or not a checkpoint of plain weights ({type(error).__name__})"
        ) from error
    facts = checkpoint.get("rb") if isinstance(checkpoint, dict) else None
    if not isinstance(facts, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a checkpoint written by train.py")
    if facts.get("format") != PACKAGE_FORMAT:
        raise UserError(
            f"{path}: model of format {facts.get('format')}, this version reads {PACKAGE_FORMAT}"
        )
    try:
        inputs = InputSpec(**facts["inputs"])
        network = build_network(facts["network"], inputs, trusted=False)
        weights = {
            name.removeprefix("network."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith("network.")
        }
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path}: the weights do not fit the description of the network") from error
    return TrainedModel(network.eval(), inputs, float(facts.get("threshold", 0.5)), facts)
