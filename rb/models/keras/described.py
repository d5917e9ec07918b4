"""What a Keras file does not say of its network, and its user does: how it is fed, what 1 means.

A file ``NAME.h5`` may have a ``NAME.yaml`` beside it; in Python, `rb.load` takes the same keys. The
configuration of a model keeps the meaning of its outputs (`with_label`), so that it travels with
checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.settings import Choice, Entries, Items, Number, OrNull, Text, read
from rb.stamps.inputs import STACKINGS
from rb.stamps.layout import CHANNELS
from rb.stamps.scaling import SCALINGS

_LABEL = "label_1"
_MEANINGS = ("real", "bogus")


@dataclass(frozen=True)
class Described:
    """What a user says of a Keras file.

    Parameters
    ----------
    channels : tuple of str, optional
        Images in the order of the network's input; by default what its shape suggests.
    stacking : str, optional
        ``horizontal`` or ``depth``; likewise.
    scaling : mapping of str to str
        Scaling by channel; a word means all of them.
    label_1 : str, optional
        What label 1, or an output of 1, means: ``real`` or ``bogus``.
    threshold : float
        Candidates with p_real at or above it are called real.
    licence : str, optional
        Of the weights.
    """

    channels: Annotated[tuple[str, ...], Items(Choice(CHANNELS), distinct=True)] = ()
    stacking: Annotated[str | None, OrNull(Choice(STACKINGS))] = None
    scaling: Annotated[dict[str, str], Entries(Choice(SCALINGS))] = field(default_factory=dict)
    label_1: Annotated[str | None, OrNull(Choice(_MEANINGS))] = None
    threshold: Annotated[float, Number(0, 1)] = 0.5
    licence: Annotated[str | None, OrNull(Text())] = None


def described(path: Path, given: Mapping[str, Any] | None = None) -> Described:
    """What is said of the Keras file `path`: `given`, else in the YAML file beside it.

    Raises
    ------
    UserError
        If that file cannot be read, or a key in it is unknown or wrong.
    """
    beside = path.with_suffix(".yaml")
    source = "inputs"
    if given is None:
        given, source = _from_file(beside) if beside.is_file() else {}, beside.name
    values = dict(given)
    if isinstance(values.get("scaling"), str):
        values["scaling"] = dict.fromkeys(CHANNELS, values["scaling"])
    return read(Described, values, source)


def _from_file(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no keys; give channels, scaling, label_1 of the network")
    return found


def with_label(config: str, meaning: str | None) -> str:
    """Keras' JSON of a model with the meaning of its label 1."""
    if meaning is None:
        return config
    try:
        model = json.loads(config)
    except (ValueError, RecursionError):
        return config  # what is wrong with it is said where it is read
    return json.dumps(model | {_LABEL: meaning}) if isinstance(model, dict) else config


def label_of(config: str) -> str | None:
    """The meaning that `with_label` wrote; None where it is not said."""
    meaning = json.loads(config).get(_LABEL)
    return meaning if meaning in _MEANINGS else None


class RealAndBogus(nn.Module):
    """Logits of real and bogus, in this order, out of what a network ends with.

    Parameters
    ----------
    one_is_real : bool
        Whether its label 1 is real.
    """

    def __init__(self, one_is_real: bool) -> None:
        super().__init__()
        self.one_is_real = one_is_real

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 2) of the logit of a sigmoid (N, 1), or of logits of labels 0 and 1 (N, 2)."""
        if x.shape[1] == 1:  # a sigmoid is the softmax of its logit and 0
            x = torch.cat([torch.zeros_like(x), x], 1)
        return x.flip(1) if self.one_is_real else x
