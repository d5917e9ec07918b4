"""One frame from beginning to end: from a seed to stamps, catalogue rows and costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rb.errors import UserError
from rb.stamps.stampset import STAMP_SIZE
from rb.survey.artefacts import add_artefacts
from rb.survey.detection import Detections, Reference, detect, find_reference, measure_fwhm
from rb.survey.exposures import Exposure, draw_conditions, draw_registration, expose
from rb.survey.labels import Labels, label_detections
from rb.survey.scene import Scene, draw_scene
from rb.survey.settings import SurveySettings
from rb.survey.subtraction import choose_regions, difference_variance, match_psf, subtract
from rb.survey.wcs import Pointing, draw_pointing

IDS_PER_FRAME = 100_000
MASKED = 1e-30
"""Value of masked pixels in a difference stamp, as in the DES stamps."""

STEPS = ("sky", "observation", "registration", "search", "template", "artefacts", "pointing")
"""Each step draws from a generator of its own, so that one does not disturb the next."""


@dataclass
class Frame:
    """All that came out of one frame.

    Attributes
    ----------
    number : int
        Frame number.
    stamps : ndarray of shape (n, 3, 51, 51)
        float32, ADU; difference, search, template.
    catalogue : dict of str to ndarray of shape (n,)
        Columns of the stamp set's catalogue.
    summary : dict
        One row of the side table ``frames``.
    """

    number: int
    stamps: NDArray[np.float32]
    catalogue: dict[str, NDArray[Any]]
    summary: dict[str, Any]


def generators(seed: int, number: int) -> dict[str, np.random.Generator]:
    """Independent generators for the steps of one frame, from (seed, frame number) alone."""
    return {
        step: np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, i)))
        for i, step in enumerate(STEPS)
    }


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
    """
    rng = generators(settings.seed, number)
    size = settings.scene.frame_size
    cpu: dict[str, float] = {}
    clock = time.process_time()

    def lap(step: str) -> None:
        nonlocal clock
        now = time.process_time()
        cpu[step] = now - clock
        clock = now

    exposure = settings.exposure
    scene = draw_scene(rng["sky"], settings.scene, exposure.zero_point)
    search_night, template_night = draw_conditions(rng["observation"], exposure, size)
    registration = draw_registration(rng["registration"], exposure, size)
    renderer = settings.scene.renderer
    search = expose(rng["search"], scene, search_night, exposure, size, renderer)
    template = expose(
        rng["template"], scene, template_night, exposure, size, renderer, registration
    )
    artefacts = add_artefacts(rng["artefacts"], search, settings.artefacts)
    pointing = draw_pointing(
        rng["pointing"], search_night.exposures > 1, size, settings.scene.pixel_scale
    )
    lap("render")

    mask = search.saturated | template.saturated
    reference = find_reference(template.image, template_night.sky_noise, settings.detection)
    lap("reference")

    regions = choose_regions(~mask, reference.x, reference.y, reference.flux, settings.subtraction)
    try:
        match = match_psf(
            search.image,
            template.image,
            search.variance + template.variance,
            regions,
            settings.subtraction,
        )
    except ValueError as error:
        raise UserError(
            f"frame {number} cannot be PSF-matched ({error}): raise data.scene.star_density or "
            "data.scene.frame_size"
        ) from error
    matched = match.convolve(template.image)
    lap("psf_matching")
    difference = subtract(search.image, matched, match)
    variance = difference_variance(search.variance, template.variance, match)
    lap("subtraction")

    fwhm = measure_fwhm(matched, reference.x, reference.y, reference.flux, ~mask)
    if not np.isfinite(fwhm):
        fwhm = search_night.psf.fwhm
    found = detect(difference, variance, mask, fwhm, settings.detection)
    lap("detection")

    scale = 10.0 ** (0.4 * (search_night.zero_point - exposure.zero_point))
    labels = label_detections(
        found,
        scene,
        artefacts,
        search_night.psf.fwhm,
        search_night.sky_noise,
        scale,
        settings.detection,
    )
    found, labels = found.select(labels.keep), labels.select(labels.keep)
    difference[mask] = MASKED
    stamps = cut_stamps((difference, search.image, template.image), found.x, found.y)
    catalogue = _catalogue(
        settings, number, found, labels, scene, reference, search, template, mask, fwhm, pointing
    )
    lap("stamps")
    recovered = np.unique(labels.supernova[labels.supernova >= 0])
    summary = _summary(
        number,
        pointing,
        search,
        template,
        fwhm,
        match.flux_ratio,
        match.regions,
        scene,
        catalogue,
        len(recovered),
        cpu,
    )
    if keep is not None:
        from rb.survey.fits import write_frame

        write_frame(keep, number, search, template, difference, scene, recovered, pointing, summary)
    return Frame(number, stamps, catalogue, summary)


def cut_stamps(
    images: tuple[NDArray[np.float32], ...], x: NDArray, y: NDArray
) -> NDArray[np.float32]:
    """Cut stamps centred on the pixel that holds each position.

    Parameters
    ----------
    images : tuple of ndarray of shape (height, width)
        One image a channel.
    x, y : ndarray of shape (n,)
        Positions, px, at least 25 px inside the images.

    Returns
    -------
    ndarray of shape (n, channels, 51, 51)
    """
    u = np.arange(STAMP_SIZE) - STAMP_SIZE // 2
    rows = np.rint(y).astype(int)[:, None, None] + u[None, :, None]
    columns = np.rint(x).astype(int)[:, None, None] + u[None, None, :]
    return np.stack([image[rows, columns] for image in images], axis=1).astype(np.float32)


def _nearest(reference: Reference, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Row of the nearest reference source and its distance in px (infinite if there is none)."""
    if len(reference.x) == 0:
        return np.zeros(len(x), dtype=int), np.full(len(x), np.inf)
    distance = np.hypot(reference.x - x[:, None], reference.y - y[:, None])
    return distance.argmin(axis=1), distance.min(axis=1)


def _magnitude(flux: NDArray, zero_point: float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, zero_point - 2.5 * np.log10(flux), np.nan)


def _catalogue(
    settings: SurveySettings,
    number: int,
    found: Detections,
    labels: Labels,
    scene: Scene,
    reference: Reference,
    search: Exposure,
    template: Exposure,
    mask: NDArray[np.bool_],
    fwhm: float,
    pointing: Pointing,
) -> dict[str, NDArray[Any]]:
    n = len(found)
    night, deep = search.conditions, template.conditions
    snr = found.flux / found.flux_err
    mag = _magnitude(found.flux, night.zero_point_measured)

    ref_mag = _magnitude(reference.flux, deep.zero_point_measured)
    scale = settings.scene.pixel_scale
    row, distance = _nearest(reference, found.x, found.y)
    near = distance * scale <= settings.detection.reference_radius_arcsec

    def from_reference(values: NDArray) -> NDArray[np.float64]:
        return np.where(near, values[row], np.nan) if len(values) else np.full(n, np.nan)

    with np.errstate(divide="ignore", invalid="ignore"):
        ref_err = 1.0857 * reference.flux_err / reference.flux
    # 5 sigma for a point source in the search image, from the PSF flux error of blank sky.
    sigma = fwhm / 2.3548
    limit = night.zero_point_measured - 2.5 * np.log10(
        5.0 * night.sky_noise * np.sqrt(4.0 * np.pi) * sigma
    )
    mag_ref = from_reference(ref_mag)
    real = labels.supernova >= 0
    sn = np.maximum(labels.supernova, 0)
    host = scene.sn_host[sn] if len(scene.sn_host) else np.full(n, -1)
    hosted = real & (host >= 0)

    def truth(values: NDArray, rows: NDArray, where: NDArray) -> NDArray[np.float64]:
        return (
            np.where(where, values[np.maximum(rows, 0)], np.nan)
            if len(values)
            else np.full(n, np.nan)
        )

    separation = scale * np.hypot(
        truth(scene.supernovae.x, sn, real) - truth(scene.galaxies.x, host, hosted),
        truth(scene.supernovae.y, sn, real) - truth(scene.galaxies.y, host, hosted),
    )
    edge = STAMP_SIZE // 2
    masked = np.array(
        [
            mask[
                round(y) - edge : round(y) + edge + 1, round(x) - edge : round(x) + edge + 1
            ].mean()
            for x, y in zip(found.x, found.y, strict=True)
        ]
    )
    ra, dec = pointing.sky(found.x, found.y)

    def fill(value: Any) -> NDArray[Any]:
        return np.full(n, value)

    return {
        "id": number * IDS_PER_FRAME + np.arange(n, dtype=np.int64),
        "label": labels.label,
        "group": fill(f"{pointing.field}-{number:05d}"),
        "kind": labels.kind,
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
        "mag_err": 1.0857 / snr,
        "a_image": found.a,
        "b_image": found.b,
        "ellipticity": 1.0 - found.b / found.a,
        "flags": found.flags.astype(np.int32),
        "mask_fraction": masked.astype(np.float64).reshape(n),
        "mag_ref": mag_ref,
        "mag_ref_err": from_reference(ref_err),
        "a_ref": from_reference(reference.a),
        "b_ref": from_reference(reference.b),
        "nn_dist_arcsec": np.where(near, distance * scale, np.nan),
        "mag_limit": fill(limit),
        "magdiff": np.where(np.isnan(mag_ref), limit, mag_ref) - mag,
        "true_mag": truth(scene.sn_mag, sn, real),
        "host_mag": truth(scene.galaxy_mag, host, hosted),
        "host_sep_arcsec": separation,
        "seeing_srch": fill(night.psf.fwhm * scale),
        "seeing_tmpl": fill(deep.psf.fwhm * scale),
        "zero_point_srch": fill(night.zero_point_measured),
        "zero_point_tmpl": fill(deep.zero_point_measured),
    }


def _summary(
    number: int,
    pointing: Pointing,
    search: Exposure,
    template: Exposure,
    fwhm: float,
    flux_ratio: float,
    regions: int,
    scene: Scene,
    catalogue: dict[str, NDArray[Any]],
    recovered: int,
    cpu: dict[str, float],
) -> dict[str, Any]:
    night, deep = search.conditions, template.conditions
    injected = len(scene.supernovae.x)
    return {
        "frame": number,
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
        "flux_ratio": flux_ratio,
        "regions": regions,
        "detections": len(catalogue["id"]),
        "real": int((catalogue["label"] == 0).sum()),
        "sn_injected": injected,
        "sn_recovered": recovered,
        "completeness": recovered / injected if injected else float("nan"),
        **{f"cpu_{step}_s": seconds for step, seconds in cpu.items()},
    }
