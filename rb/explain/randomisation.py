"""Does a map depend on what the network learnt? Parameter randomisation, layer by layer.

After Adebayo et al. 2018 (arXiv 1810.03292): the layers are set back to random weights one after
another, from the last to the first, and the maps are compared with those of the trained network.
A map that stays the same shows the stamp, or the architecture, but nothing that was learnt.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from rb.explain.attribution import Explainer
from rb.models.cnn import keras_initialisation

_KINDS = {nn.Conv2d: "conv", nn.Linear: "dense", nn.BatchNorm2d: "norm"}


@dataclass(frozen=True)
class Stage:
    """A network some of whose last layers are random.

    Parameters
    ----------
    number
        How many layers are random.
    name
        The layer that was randomised last; "trained" for the first stage.
    """

    number: int
    name: str
    network: nn.Module


def cascade(network: nn.Module, stages: int, seed: int) -> Iterator[Stage]:
    """Yield copies of `network`, first as trained, then with ever more random layers.

    Convolutions and dense layers get Keras' initial weights (Glorot uniform, zero biases), as
    before training; other layers what torch starts them with.

    Parameters
    ----------
    stages
        Networks with more layers are randomised in so many steps of about equal size.
    seed
        Of the random weights.
    """
    network = copy.deepcopy(network)
    yield Stage(0, "trained", copy.deepcopy(network))
    layers = list(_layers(network))[::-1]
    stops = np.unique(np.linspace(0, len(layers), min(stages, len(layers)) + 1).round())[1:]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        done = 0
        for stop in stops.astype(int):
            torch.random.set_rng_state(state)  # what the caller drew meanwhile does not count
            for _, layer in layers[done:stop]:
                _reset(layer)
            state = torch.random.get_rng_state()
            done = stop
            yield Stage(done, layers[done - 1][0], copy.deepcopy(network))


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers with weights of their own and their names, from the input to the output."""
    numbers: dict[str, int] = {}
    for module in network.modules():
        if next(module.parameters(recurse=False), None) is not None:
            kind = next((n for t, n in _KINDS.items() if isinstance(module, t)), None)
            kind = kind or type(module).__name__.lower()
            numbers[kind] = numbers.get(kind, 0) + 1
            yield f"{kind} {numbers[kind]}", module


def _reset(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        keras_initialisation(layer)
    elif callable(reset := getattr(layer, "reset_parameters", None)):
        reset()
    else:
        for parameter in layer.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.02)


def randomisation(
    explainer: Explainer,
    panels: Tensor,
    methods: Sequence[str],
    stages: int,
    seed: int,
    trained: dict[str, np.ndarray] | None = None,
    tick: Callable[[int], Any] = lambda n: None,
) -> pd.DataFrame:
    """Likeness of the maps to those of the trained network, while layers become random.

    The class that is explained stays the one that the trained network predicts.

    Parameters
    ----------
    explainer
        Of the trained network.
    panels
        Prepared panels (N, C, S, S).
    trained
        Attributions by the trained network by method, if they are known already.
    tick
        Called with the number of maps done since the last call.

    Returns
    -------
    DataFrame
        A row a method, stage and stamp: `method`, `stage`, `layer`, `stamp`,
        `spearman` (rank correlation over all pixels) and `ssim` (structural similarity
        of the maps normalised to their largest value) of absolute maps. Stage -1 compares
        each stamp's map with another stamp's, both by the trained network: what maps have in
        common anyway.
    """
    classes = explainer.classes(panels)
    reference = dict(trained or {})
    rows = []
    for stage in cascade(explainer.network, stages, seed):
        random = Explainer(stage.network, explainer.inputs, explainer.settings)
        for method in methods:
            if stage.number == 0:
                if method not in reference:
                    reference[method] = explainer.attribute(panels, method, classes, tick)
                maps = reference[method]
                if len(maps) > 1:
                    other = np.roll(maps, 1, axis=0)
                    rows.append(_compared(maps, other, method, -1, "another stamp"))
            else:
                maps = random.attribute(panels, method, classes, tick)
            rows.append(_compared(reference[method], maps, method, stage.number, stage.name))
    return pd.concat(rows, ignore_index=True)


def _compared(
    first: np.ndarray, second: np.ndarray, method: str, stage: int, layer: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": method,
            "stage": stage,
            "layer": layer,
            "stamp": np.arange(len(first)),
            "spearman": rank_correlation(first, second),
            "ssim": structural_similarity(first, second),
        }
    )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the absolute values over all pixels of each map (N,).

    NaN where a map is constant.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.abs(m).reshape(len(m), -1), axis=1) for m in (first, second)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (a * b).sum(1) / norm, np.nan)


def structural_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """SSIM (Wang et al. 2004) of absolute maps, each normalised to its largest value (N,).

    Mean over the panels, Gaussian window of σ 1.5 px. NaN where a map is zero everywhere.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    maps = []
    for values in (np.abs(first), np.abs(second)):
        top = values.max((1, 2, 3), keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            maps.append(torch.from_numpy(values / top))
    known = torch.isfinite(maps[0]).flatten(1).all(1) & torch.isfinite(maps[1]).flatten(1).all(1)
    out = np.full(len(first), np.nan)
    if known.any():
        found = structural_similarity_index_measure(
            maps[0][known], maps[1][known], data_range=1.0, reduction="none"
        )
        out[known.numpy()] = np.reshape(np.asarray(found), -1)
    return out
