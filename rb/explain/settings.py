"""Settings of the saliency study, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rb.settings import Choice, Items, Number, OrNull, Rule, Whole, check, refuse

SCORES = ("softmax", "logit")
METHODS = ("saliency", "smoothgrad", "integrated_gradients", "occlusion")
BASELINES = ("median", "zero")

RULES: dict[str, Rule] = {
    "score": Choice(SCORES),
    "batch_size": Whole(1),
    "baseline": Choice(BASELINES),
    "smoothgrad.samples": Whole(1),
    "smoothgrad.noise": Number(above=0),
    "integrated_gradients.steps": Whole(2),
    "occlusion.window": Whole(1, 51),
    "occlusion.stride": Whole(1),
    "seed": Whole(0),
    "n_shares": OrNull(Whole(1)),
    "methods": OrNull(Items(Choice(METHODS), single=True)),
    "n_methods": Whole(0),
    "n_sanity": Whole(0),
    "examples": Whole(0),
    "method_examples": Whole(0),
    "randomisation_stages": Whole(1),
    "deletion_steps": Whole(2),
    "bootstrap": Whole(100),
}


@dataclass(frozen=True)
class AttributionSettings:
    """How attributions are computed.

    Parameters
    ----------
    score
        Of the predicted class: ``softmax`` probability, as the authors, or its ``logit``.
    batch_size
        Stamps that the network sees at once.
    baseline
        What "nothing there" is: each panel's ``median`` (its sky), or ``zero``. Where
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
    """The whole of ``conf/study/saliency.yaml``; meanings as there."""

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
    found = check(study, RULES, "study")
    found = {key.replace(".", "_"): value for key, value in found.items()}
    own = {f.name for f in fields(SaliencySettings)}
    attribution = AttributionSettings(
        **{f.name: found[f.name] for f in fields(AttributionSettings)}
    )
    if attribution.occlusion_stride > attribution.occlusion_window:
        refuse(
            "study.occlusion.stride",
            attribution.occlusion_stride,
            "at most study.occlusion.window: it is wider than the window, and pixels between "
            "would never be covered",
        )
    found["methods"] = tuple(dict.fromkeys(found["methods"] or ()))
    return SaliencySettings(
        attribution=attribution, **{key: value for key, value in found.items() if key in own}
    )
