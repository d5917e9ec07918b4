"""One frame from beginning to end: from a seed to stamps, catalogue rows and costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rb.errors import UserError
from rb.stamps.batch import Stamps
from rb.stamps.layout import MASKED, STAMP_SIZE
from rb.survey.camera.observation import Observation, observe
from rb.survey.pipeline.catalogue import catalogue_rows, frame_summary
from rb.survey.pipeline.detection import Detections, Reference, detect, find_reference
from rb.survey.pipeline.labels import label_detections
from rb.survey.pipeline.measure import Measured, find_stars, measure_exposure, moved
from rb.survey.pipeline.pair import registration
from rb.survey.pipeline.subtraction import (
    Match,
    choose_regions,
    difference_variance,
    match_psf,
    subtract,
)
from rb.survey.settings import SurveySettings


@dataclass
class Frame:
    """All that came out of one frame.

    Attributes
    ----------
    number : int
        Frame number.
    stamps : Stamps
        float32, ADU; difference, search, template, with what `SurveySettings.planes` names.
    catalogue : dict of str to ndarray of shape (n,)
        Columns of the stamp set's catalogue.
    summary : dict
        One row of the side table ``frames``.
    """

    number: int
    stamps: Stamps
    catalogue: dict[str, NDArray[Any]]
    summary: dict[str, Any]


class Stopwatch:
    """CPU seconds of named steps, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.process_time()

    def lap(self, step: str) -> None:
        """Book the time since the last lap on a step."""
        now = time.process_time()
        self.seconds[step] = now - self._start
        self._start = now


def simulate_frame(settings: SurveySettings, number: int, keep: Path | None = None) -> Frame:
    """Simulate, subtract, detect and label one frame.

    Parameters
    ----------
    settings : SurveySettings
        Everything that the result depends on, with the seed.
    number : int
        Frame number, 0 or more.
    keep : Path, optional
        Folder for the frame's images and truth table as FITS.

    Returns
    -------
    Frame
        Candidates in the order of detection.

    Raises
    ------
    UserError
        There are too few sources to match the PSFs with, or `keep` cannot be written to.
    """
    watch = Stopwatch()
    observation = observe(settings, number)
    search, template, mask = observation.search, observation.template, observation.mask
    watch.lap("render")
    noise = template.conditions.sky_noise
    reference = find_reference(template.image, noise, settings.detection)
    watch.lap("reference")
    planes = settings.planes
    stars = find_stars(template.image, ~mask, reference)
    measured = [
        measure_exposure(exposure, stars, reference, "variance" in planes)
        for exposure in (search, template)
    ]
    offset, _ = registration(search.image, template.image, mask, reference)
    watch.lap("measurement")
    # Where no star tells, which tiny frames can bring about, the truth does.
    fwhm = measured[0].fwhm if np.isfinite(measured[0].fwhm) else search.conditions.psf.fwhm
    match = match_frame(settings, observation, reference)
    matched = match.convolve(template.image)
    watch.lap("psf_matching")
    difference = subtract(search.image, matched, match)
    variance = difference_variance(search.variance, template.variance, match)
    watch.lap("subtraction")
    found = detect(difference, variance, mask, fwhm, settings.detection)
    watch.lap("detection")
    labels = label_detections(found, observation, settings.detection)
    found, labels = found.select(labels.keep), labels.select(labels.keep)
    difference[mask] = MASKED
    size = settings.detection.stamp_size
    stamps = cut_stamps((difference, search.image, template.image), found.x, found.y, size)
    watch.lap("stamps")
    catalogue = catalogue_rows(settings, observation, reference, found, labels, fwhm, measured)
    variances = _variance_stamps(measured, match, mask, found, size)
    shift = candidate_shifts(offset, found)
    catalogue |= {"shift_x": shift[:, 0], "shift_y": shift[:, 1]}
    psfs = candidate_psfs(measured, shift) if "psf" in planes else None
    watch.lap("catalogue")
    if keep is not None:
        from rb.survey.fits import write_frame

        write_frame(keep, observation, difference, labels)
    summary = frame_summary(observation, match, labels, fwhm, watch.seconds)
    return Frame(number, Stamps(stamps, variances, psfs), catalogue, summary)


def candidate_shifts(offset: NDArray[np.float64] | None, found: Detections) -> NDArray[np.float64]:
    """How far sources lie off their places in the template, as the frame's bright ones tell.

    Parameters
    ----------
    offset : ndarray of shape (3, 2), or None
        From `rb.survey.pipeline.pair.registration`.
    found : Detections
        n candidates.

    Returns
    -------
    ndarray of shape (n, 2)
        x and y in px; 0 where too few sources tell.
    """
    if offset is None:
        return np.zeros((len(found), 2))
    return np.asarray(-np.column_stack([np.ones(len(found)), found.x, found.y]) @ offset)


def candidate_psfs(measured: Sequence[Measured], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """PSF of search image and template at each candidate.

    Parameters
    ----------
    measured : sequence of Measured
        Search image and template.
    shift : ndarray of shape (n, 2)
        From `candidate_shifts`.

    Returns
    -------
    ndarray of shape (n, 2, P, P)
        The template's is in the middle, the search image's as far off it as its sources lie.
    """
    psfs = np.repeat(np.stack([exposure.psf for exposure in measured])[None], len(shift), axis=0)
    psfs[:, 0] = moved(psfs[:, 0], *shift.T)
    return psfs


def _variance_stamps(
    measured: Sequence[Measured],
    match: Match,
    mask: NDArray[np.bool_],
    found: Detections,
    size: int,
) -> NDArray[np.float32] | None:
    """Variances of the stamps as far as they were measured, NaN where pixels are masked."""
    search, template = (exposure.variance for exposure in measured)
    if search is None or template is None:
        return None
    # A saturated template pixel spoils what the kernel reaches, but only it is masked.
    known = np.nan_to_num(template, nan=float(np.nanmedian(template)))
    difference = difference_variance(search, known, match)
    difference[mask] = np.nan
    return cut_stamps((difference, search, template), found.x, found.y, size)


def match_frame(settings: SurveySettings, observation: Observation, reference: Reference) -> Match:
    """Match the template's PSF to the search image's round the template's bright sources.

    Raises
    ------
    UserError
        There are too few of them.
    """
    search, template = observation.search, observation.template
    regions = choose_regions(
        ~observation.mask, reference.x, reference.y, reference.flux, settings.subtraction
    )
    try:
        return match_psf(
            search.image,
            template.image,
            search.variance + template.variance,
            regions,
            settings.subtraction,
        )
    except ValueError as error:
        raise UserError(
            f"frame {observation.number} cannot be PSF-matched ({error}): raise "
            "data.scene.star_density or data.scene.frame_size"
        ) from error


def cut_stamps(
    images: tuple[NDArray[np.float32], ...], x: NDArray, y: NDArray, size: int = STAMP_SIZE
) -> NDArray[np.float32]:
    """Cut stamps centred on the pixel that holds each position.

    Parameters
    ----------
    images : tuple of ndarray of shape (height, width)
        One image a channel.
    x, y : ndarray of shape (n,)
        Positions, px, at least half a stamp inside the images.
    size : int
        Pixels along a side of a stamp; the position is in pixel ``size // 2``.

    Returns
    -------
    ndarray of shape (n, channels, size, size)
    """
    u = np.arange(size) - size // 2
    rows = np.rint(y).astype(int)[:, None, None] + u[None, :, None]
    columns = np.rint(x).astype(int)[:, None, None] + u[None, None, :]
    return np.stack([image[rows, columns] for image in images], axis=1).astype(np.float32)
