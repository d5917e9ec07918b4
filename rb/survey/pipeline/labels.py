"""Say what is behind each detection, from the truth that was put into the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rb.stamps.stampset import BOGUS, REAL
from rb.survey.camera.artefacts import KINDS
from rb.survey.camera.observation import Observation
from rb.survey.pipeline.detection import Detections
from rb.survey.settings import DetectionSettings


@dataclass(frozen=True)
class Labels:
    """What is behind each detection.

    Attributes
    ----------
    label : ndarray of int8, shape (n,)
        0 real, 1 bogus.
    kind : ndarray of str, shape (n,)
        ``sn`` or another of `rb.survey.sky.events.KINDS`, ``star_residual``,
        ``galaxy_residual``, an artefact's kind, or ``noise``.
    event : ndarray of int, shape (n,)
        Row of the matched event, -1 for bogus.
    keep : ndarray of bool, shape (n,)
        False for a second detection of an event that has a nearer one.
    """

    label: NDArray[np.int8]
    kind: NDArray[np.str_]
    event: NDArray[np.int64]
    keep: NDArray[np.bool_]

    def select(self, rows: NDArray[np.bool_]) -> Labels:
        """The labels of the detections for which `rows` is true."""
        return Labels(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def _artefact(truth: NDArray[np.uint8], x: float, y: float, radius: int = 2) -> int:
    """The commonest artefact code within `radius` px, 0 if there is none."""
    row, column = round(y), round(x)
    cut = truth[
        max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1
    ]
    counts = np.bincount(cut.ravel(), minlength=len(KINDS))
    counts[0] = 0
    return int(counts.argmax()) if counts.any() else 0


def label_detections(
    detections: Detections,
    observation: Observation,
    settings: DetectionSettings,
) -> Labels:
    """Match detections with the truth.

    A detection is real when it lies within `match_radius_px` (and half a trail) of an event that
    changed by enough, and in the same sense, to be its cause: a supernova or whatever else the
    settings ``events`` switch on. Behind any other is, in this order: an artefact within 2 px; the
    star or galaxy that is brightest at its position, if that is above half the sky noise; noise.

    Parameters
    ----------
    detections : Detections
        Candidates.
    observation : Observation
        The injected truth and the conditions of the search image.
    settings : DetectionSettings
        Radius and least true signal-to-noise ratio of a match.

    Returns
    -------
    Labels
    """
    n = len(detections)
    scene, flux_scale = observation.scene, observation.flux_scale
    night = observation.search.conditions
    label = np.full(n, BOGUS, dtype=np.int8)
    kind = np.full(n, "noise", dtype="U16")
    event = np.full(n, -1)
    keep = np.ones(n, dtype=bool)

    events = scene.events
    if n and len(events):
        distance = np.hypot(detections.x[:, None] - events.x, detections.y[:, None] - events.y)
        # Signed, as the detected flux is: what has faded leaves a negative source.
        true_snr = events.change * flux_scale / detections.flux_err[:, None]
        true_snr *= np.sign(detections.flux)[:, None]
        reach = settings.match_radius_px + 0.5 * events.extent
        possible = (distance <= reach) & (true_snr >= settings.match_snr)
        distance = np.where(possible, distance, np.inf)
        nearest = distance.argmin(axis=1)
        matched = np.flatnonzero(possible.any(axis=1))
        for i in matched[np.argsort(distance[matched, nearest[matched]], kind="stable")]:
            if nearest[i] in event:
                keep[i] = False
                continue
            event[i], label[i], kind[i] = nearest[i], REAL, events.kind[nearest[i]]

    sigma = night.psf.fwhm / 2.3548
    groups = (("star_residual", scene.stars), ("galaxy_residual", scene.galaxies.whole))
    for i in np.flatnonzero(event < 0):
        code = _artefact(observation.artefacts, detections.x[i], detections.y[i])
        if code:
            kind[i] = KINDS[code]
            continue
        brightest = 0.5 * night.sky_noise
        for name, sources in groups:
            spread = sigma**2 + (0.85 * sources.radius) ** 2
            r2 = (sources.x - detections.x[i]) ** 2 + (sources.y - detections.y[i]) ** 2
            # Moffat-like wings: a Gaussian would give bright stars too short an arm.
            light = (
                sources.flux * flux_scale / (2 * np.pi * spread) / (1.0 + r2 / (4 * spread)) ** 3
            )
            if len(light) and light.max() > brightest:
                brightest, kind[i] = float(light.max()), name
    return Labels(label, kind, event, keep)
