"""Several trained networks as one: the mean of their probabilities."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.io.files import write_whole
from rb.models.build import build_network
from rb.models.checkpoint import NetworkScorer, load_checkpoint
from rb.models.contract import Provenance
from rb.models.layers import mean_logits


class Ensemble(nn.Module):
    """Networks of one kind of input, whose probabilities are averaged.

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of the input of each.
    members : sequence of mapping
        Descriptions of the networks: `_target_` and its arguments.
    n_side : int
        Length of the side vector of each.
    """

    def __init__(
        self, input_shape: Sequence[int], members: Sequence[Mapping[str, Any]], n_side: int = 0
    ) -> None:
        super().__init__()
        inputs: Any = SimpleNamespace(shape=tuple(input_shape), side=n_side > 0, n_side=n_side)
        self.members = nn.ModuleList(build_network(member, inputs) for member in members)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logarithms of the mean probabilities (n, n_classes)."""
        return mean_logits([member(*inputs) for member in self.members])

    def with_embedding(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the members' last hidden layers side by side."""
        members: Any = self.members
        logits, hidden = zip(*(member.with_embedding(*inputs) for member in members), strict=True)
        return mean_logits(logits), torch.cat(hidden, 1)


def combine(
    files: Sequence[str | os.PathLike[str]], target: str | os.PathLike[str], name: str = "ensemble"
) -> NetworkScorer:
    """Write one checkpoint that averages several, and load it.

    Parameters
    ----------
    files : sequence of path
        Checkpoints of `train.py` that are fed the same.
    target : path
        The checkpoint to write, .ckpt.
    name : str
        Name of the model.

    Returns
    -------
    NetworkScorer
        With the mean of the members' thresholds, and their training set if it is one.

    Raises
    ------
    UserError
        If there are fewer than two, one cannot be read, or they are fed differently.
    """
    scorers = [load_checkpoint(Path(file)) for file in files]
    if len(scorers) < 2:
        raise UserError(f"an ensemble of {len(scorers)} makes no sense; give two or more models")
    first = scorers[0]
    for file, scorer in zip(files, scorers, strict=True):
        if scorer.inputs != first.inputs:
            raise UserError(
                f"{file}: is fed other inputs than {files[0]}; combine models of a kind"
            )
    packages = [torch.load(file, map_location="cpu", weights_only=True)["rb"] for file in files]
    sets = {scorer.provenance.training_set for scorer in scorers}
    provenance = Provenance(
        name,
        training_set=first.provenance.training_set if len(sets) == 1 else None,
        code_version=first.provenance.code_version,
    )
    weights = {
        f"network.members.{i}.{key}": value
        for i, scorer in enumerate(scorers)
        for key, value in scorer.network.state_dict().items()
    }
    package = packages[0] | {
        "network": {
            "_target_": f"{Ensemble.__module__}.{Ensemble.__qualname__}",
            "members": [package["network"] for package in packages],
        },
        "threshold": sum(scorer.threshold for scorer in scorers) / len(scorers),
        "provenance": provenance.to_dict(),
    }
    content = io.BytesIO()
    torch.save({"rb": package, "state_dict": weights}, content)
    write_whole(Path(target), content.getvalue(), "the ensemble")
    return load_checkpoint(Path(target))
