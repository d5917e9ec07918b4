"""Settings of the saliency study, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rb.errors import UserError

SCORES = ("softmax", "logit")
METHODS = ("saliency", "smoothgrad", "integrated_gradients", "occlusion")
BASELINES = ("median", "zero")


@dataclass(frozen=True)
class AttributionSettings:
    """How attributions are computed.

    Parameters
    ----------
    score
        Of the predicted class: `softmax` probability, as the authors, or its `logit`.
    batch_size
        Stamps that the network sees at once.
    baseline
        What "nothing there" is: each panel's `median` (its sky), or `zero`. Where
        Integrated Gradients begins, what Occlusion and deletion put in place of pixels.
    smoothgrad_samples, smoothgrad_noise
        Noisy copies, and their σ in units of each panel's own sky noise.
    integrated_gradients_steps
        Points of the Gauss-Legendre integration.
    occlusion_window, occlusion_stride
        Side and step of the occluding square, px.
    seed
        Of all noise.
    """

    score: str = "softmax"
    batch_size: int = 64
    baseline: str = "median"
    smoothgrad_samples: int = 16
    smoothgrad_noise: float = 1.0
    integrated_gradients_steps: int = 24
    occlusion_window: int = 7
    occlusion_stride: int = 5
    seed: int = 0


@dataclass(frozen=True)
class SaliencySettings:
    """The whole of `conf/study/saliency.yaml`; meanings as there."""

    attribution: AttributionSettings
    n_shares: int | None
    methods: tuple[str, ...]
    n_methods: int
    n_sanity: int
    examples: int
    method_examples: int
    randomisation_stages: int
    deletion_steps: int
    bootstrap: int
    seed: int


def read_settings(study: Mapping[str, Any]) -> SaliencySettings:
    """The settings of the study.

    Raises
    ------
    UserError
        Naming the key, its value and what it may be.
    """
    methods = study["methods"]
    methods = [methods] if isinstance(methods, str) else list(methods or [])
    for method in methods:
        _choice("methods", method, METHODS)
    smoothgrad, occlusion = study["smoothgrad"], study["occlusion"]
    attribution = AttributionSettings(
        score=_choice("score", study["score"], SCORES),
        batch_size=_whole("batch_size", study["batch_size"], 1),
        baseline=_choice("baseline", study["baseline"], BASELINES),
        smoothgrad_samples=_whole("smoothgrad.samples", smoothgrad["samples"], 1),
        smoothgrad_noise=_positive("smoothgrad.noise", smoothgrad["noise"]),
        integrated_gradients_steps=_whole(
            "integrated_gradients.steps", study["integrated_gradients"]["steps"], 2
        ),
        occlusion_window=_whole("occlusion.window", occlusion["window"], 1),
        occlusion_stride=_whole("occlusion.stride", occlusion["stride"], 1),
        seed=_whole("seed", study["seed"], 0),
    )
    if attribution.occlusion_stride > attribution.occlusion_window:
        raise UserError(
            f"study.occlusion.stride is {attribution.occlusion_stride}, wider than the window: "
            "pixels between would never be covered; give at most study.occlusion.window"
        )
    n_shares = study["n_shares"]
    return SaliencySettings(
        attribution=attribution,
        n_shares=None if n_shares is None else _whole("n_shares", n_shares, 1),
        methods=tuple(dict.fromkeys(methods)),
        n_methods=_whole("n_methods", study["n_methods"], 0),
        n_sanity=_whole("n_sanity", study["n_sanity"], 0),
        examples=_whole("examples", study["examples"], 0),
        method_examples=_whole("method_examples", study["method_examples"], 0),
        randomisation_stages=_whole("randomisation_stages", study["randomisation_stages"], 1),
        deletion_steps=_whole("deletion_steps", study["deletion_steps"], 2),
        bootstrap=_whole("bootstrap", study["bootstrap"], 100),
        seed=attribution.seed,
    )


def _choice(key: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UserError(f"study.{key} is '{value}'; choose {' or '.join(choices)}")
    return str(value)


def _whole(key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"study.{key} is {value}; give a whole number of at least {least}")
    return int(value)


def _positive(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"study.{key} is {value}; give a number above 0")
    return float(value)
