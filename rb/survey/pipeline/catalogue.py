"""Catalogue rows of one frame: what the pipeline measured, and the truth behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rb.stamps.layout import IMAGES, REAL
from rb.survey.camera.observation import Observation
from rb.survey.pipeline.detection import Detections, Reference
from rb.survey.pipeline.labels import Labels
from rb.survey.pipeline.measure import Measured
from rb.survey.pipeline.subtraction import Match
from rb.survey.settings import SurveySettings

IDS_PER_FRAME = 100_000


def _nearest(reference: Reference, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Row of the nearest reference source and its distance in px (infinite if there is none)."""
    if len(reference.x) == 0:
        return np.zeros(len(x), dtype=int), np.full(len(x), np.inf)
    distance = np.hypot(reference.x - x[:, None], reference.y - y[:, None])
    return distance.argmin(axis=1), distance.min(axis=1)


def _magnitude(flux: NDArray, zero_point: float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, zero_point - 2.5 * np.log10(flux), np.nan)


def catalogue_rows(
    settings: SurveySettings,
    observation: Observation,
    reference: Reference,
    found: Detections,
    labels: Labels,
    fwhm: float,
    measured: Sequence[Measured],
) -> dict[str, NDArray[Any]]:
    """Columns of the stamp set's catalogue; docs/survey.md describes each with its unit.

    Parameters
    ----------
    settings : SurveySettings
        Pixel scale and the radius of the reference match.
    observation : Observation
        Images' conditions and the truth.
    reference : Reference
        Sources of the template.
    found : Detections
        The n candidates.
    labels : Labels
        What is behind them.
    fwhm : float
        FWHM of the search image, px, as the photometry has it.
    measured : sequence of Measured
        What is known of the search image and of the template.

    Returns
    -------
    dict of str to ndarray of shape (n,)
    """
    n = len(found)
    number, scene, pointing = observation.number, observation.scene, observation.pointing
    night, deep = observation.search.conditions, observation.template.conditions
    scale = settings.scene.pixel_scale

    def fill(value: Any) -> NDArray[Any]:
        return np.full(n, value)

    def take(values: NDArray, rows: NDArray, where: NDArray) -> NDArray[np.float64]:
        """Values at rows, NaN where there is nothing to take."""
        return np.where(where, values[np.maximum(rows, 0)], np.nan) if len(values) else fill(np.nan)

    row, distance = _nearest(reference, found.x, found.y)
    near = distance * scale <= settings.detection.reference_radius_arcsec
    with np.errstate(divide="ignore", invalid="ignore"):
        ref_err = 1.0857 * reference.flux_err / reference.flux
    mag_ref = take(_magnitude(reference.flux, deep.zero_point_measured), row, near)

    # 5 sigma for a point source on blank sky in the search image.
    sigma = fwhm / 2.3548
    limit = night.zero_point_measured - 2.5 * np.log10(
        5.0 * night.sky_noise * np.sqrt(4.0 * np.pi) * sigma
    )
    snr = found.flux / found.flux_err
    mag = _magnitude(np.abs(found.flux), night.zero_point_measured)

    event, events, galaxies = labels.event, scene.events, scene.galaxies
    real = event >= 0
    host = events.host[event] if len(events) else fill(-1)
    hosted = real & (host >= 0)
    separation = scale * np.hypot(
        take(events.x, event, real) - take(galaxies.whole.x, host, hosted),
        take(events.y, event, real) - take(galaxies.whole.y, host, hosted),
    )
    edge = settings.detection.stamp_size // 2
    mask = observation.mask
    masked = [
        mask[round(y) - edge : round(y) + edge + 1, round(x) - edge : round(x) + edge + 1].mean()
        for x, y in zip(found.x, found.y, strict=True)
    ]
    ra, dec = pointing.sky(found.x, found.y)
    return {
        "id": number * IDS_PER_FRAME + np.arange(n, dtype=np.int64),
        "label": labels.label,
        "group": fill(f"{pointing.field}-{number:05d}"),
        "kind": labels.kind,
        "negative": found.flux < 0,
        "frame": fill(number).astype(np.int32),
        "field": fill(pointing.field),
        "x": found.x,
        "y": found.y,
        "ra": ra,
        "dec": dec,
        "flux": found.flux,
        "flux_err": found.flux_err,
        "snr": snr,
        "mag": mag,
        "mag_err": 1.0857 / np.abs(snr),
        "a_image": found.a,
        "b_image": found.b,
        "ellipticity": 1.0 - found.b / found.a,
        "flags": found.flags.astype(np.int32),
        "mask_fraction": np.array(masked, dtype=np.float64),
        "mag_ref": mag_ref,
        "mag_ref_err": take(ref_err, row, near),
        "a_ref": take(reference.a, row, near),
        "b_ref": take(reference.b, row, near),
        "nn_dist_arcsec": np.where(near, distance * scale, np.nan),
        "mag_limit": fill(limit),
        "magdiff": np.where(np.isnan(mag_ref), limit, mag_ref) - mag,
        "true_mag": take(scene.event_mag, event, real),
        "host_mag": take(galaxies.mag, host, hosted),
        "host_sep_arcsec": separation,
        "seeing_srch": fill(night.psf.fwhm * scale),
        "seeing_tmpl": fill(deep.psf.fwhm * scale),
        **{
            f"{name}_{image}": fill(value)
            for image, exposure in zip(IMAGES, measured, strict=True)
            for name, value in exposure.side().items()
        },
    }


def frame_summary(
    observation: Observation,
    match: Match,
    labels: Labels,
    fwhm: float,
    cpu: dict[str, float],
) -> dict[str, Any]:
    """One row of the side table ``frames``; docs/survey.md describes the columns.

    Parameters
    ----------
    observation : Observation
        Images' conditions and the truth.
    match : Match
        The PSF match.
    labels : Labels
        What is behind the detections.
    fwhm : float
        Measured FWHM of the search image, px.
    cpu : dict of str to float
        CPU seconds of each step.

    Returns
    -------
    dict
    """
    pointing = observation.pointing
    night, deep = observation.search.conditions, observation.template.conditions
    injected = int((observation.scene.events.kind == "sn").sum())
    recovered = int((labels.kind == "sn").sum())
    return {
        "frame": observation.number,
        "field": pointing.field,
        "ra": pointing.ra,
        "dec": pointing.dec,
        "seeing_srch": night.psf.fwhm * pointing.pixel_scale,
        "seeing_tmpl": deep.psf.fwhm * pointing.pixel_scale,
        "fwhm_measured_px": fwhm,
        "sky_noise_srch": night.sky_noise,
        "sky_noise_tmpl": deep.sky_noise,
        "exposures_srch": night.exposures,
        "exposures_tmpl": deep.exposures,
        "zero_point_srch": night.zero_point,
        "zero_point_tmpl": deep.zero_point,
        "flux_ratio": match.flux_ratio,
        "regions": match.regions,
        "detections": len(labels.label),
        "real": int((labels.label == REAL).sum()),
        "sn_injected": injected,
        "sn_recovered": recovered,
        "completeness": recovered / injected if injected else float("nan"),
        **{f"cpu_{step}_s": seconds for step, seconds in cpu.items()},
    }
