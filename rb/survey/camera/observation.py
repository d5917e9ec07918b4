"""Observe one field twice: everything of a frame that comes before the reduction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rb.survey.camera.artefacts import add_artefacts
from rb.survey.camera.exposures import Exposure, draw_conditions, draw_registration, expose
from rb.survey.camera.wcs import Pointing, draw_pointing
from rb.survey.settings import SurveySettings
from rb.survey.sky.scene import Scene, draw_scene

STEPS = (
    *("sky", "observation", "registration", "search", "template", "artefacts", "pointing"),
    "events",
)
"""Each step draws from a generator of its own, so that one does not disturb the next."""


@dataclass(frozen=True)
class Observation:
    """A pair of images and the truth behind them.

    Attributes
    ----------
    number : int
        Frame number.
    scene : Scene
        What is in the sky.
    search, template : Exposure
        The images; what has exploded is in the search image only.
    artefacts : ndarray of shape (size, size)
        Truth map of the search image's artefacts.
    pointing : Pointing
        Where the frame lies.
    flux_scale : float
        Search flux per scene flux.
    """

    number: int
    scene: Scene
    search: Exposure
    template: Exposure
    artefacts: NDArray[np.uint8]
    pointing: Pointing
    flux_scale: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels that the reduction leaves out in either image."""
        return self.search.masked | self.template.masked


def generators(seed: int, number: int) -> dict[str, np.random.Generator]:
    """Independent generators for the steps of one frame, from (seed, frame number) alone."""
    return {
        step: np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, i)))
        for i, step in enumerate(STEPS)
    }


def observe(settings: SurveySettings, number: int) -> Observation:
    """Draw a field and take its two images.

    Parameters
    ----------
    settings : SurveySettings
        The survey, with its seed.
    number : int
        Frame number, 0 or more.

    Returns
    -------
    Observation
    """
    rng = generators(settings.seed, number)
    exposure, size = settings.exposure, settings.scene.frame_size
    scene = draw_scene(
        rng["sky"],
        rng["events"],
        settings.scene,
        settings.events,
        exposure.zero_point,
        settings.detection.stamp_size,
    )
    night, deep = draw_conditions(rng["observation"], exposure, size)
    registration = draw_registration(rng["registration"], exposure, size)
    renderer = settings.scene.renderer
    search = expose(rng["search"], scene, night, exposure, size, renderer)
    template = expose(rng["template"], scene, deep, exposure, size, renderer, registration)
    return Observation(
        number=number,
        scene=scene,
        search=search,
        template=template,
        artefacts=add_artefacts(rng["artefacts"], search, settings.artefacts),
        pointing=draw_pointing(
            rng["pointing"], night.exposures > 1, size, settings.scene.pixel_scale
        ),
        flux_scale=10.0 ** (0.4 * (night.zero_point - exposure.zero_point)),
    )
