"""Every number that the simulated survey depends on, checked before anything is simulated.

Their values are in `conf/data/simulated.yaml`, with a unit and a source for each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any

import yaml

from rb.config import project_root
from rb.errors import UserError
from rb.settings import Choice, Count, Items, Number, Rule, Share, Span, Whole, check, read
from rb.stamps.layout import OPTIONAL

CODE_VERSION = 4
"""Raised whenever a change of the simulator changes its sets, so that old caches are not used."""

Amount = Annotated[float, Number(0)]
Range = Annotated[tuple[float, float], Span(Number(0))]


@dataclass(frozen=True)
class SceneSettings:
    """What is in the sky. Magnitudes are total AB magnitudes, densities per square arcmin."""

    frame_size: Annotated[int, Whole(100, 8192)]
    pixel_scale: Annotated[float, Number(0.001, 60.0)]
    renderer: Annotated[str, Choice(("mixture", "galsim"))]
    galaxy_density: Amount
    galaxy_mag: Range
    galaxy_slope: Annotated[float, Number(-2.0, 2.0)]
    galaxy_radius_arcsec: Amount
    galaxy_radius_slope: Amount
    galaxy_radius_scatter: Amount
    galaxy_knots: Amount
    galaxy_knots_share: Share
    star_density: Amount
    star_mag: Range
    star_slope: Annotated[float, Number(-2.0, 2.0)]
    proper_motion_px: Amount
    sn_per_frame: Count
    sn_mag: Range
    sn_mag_peak: Amount
    sn_mag_width: Annotated[float, Number(0.001, 100.0)]
    sn_separation_px: Amount
    sn_offset: Amount
    host_mag: Range
    host_mag_peak: Amount
    host_mag_width: Annotated[float, Number(0.001, 100.0)]
    host_correlation: Annotated[float, Number(-0.99, 0.99)]
    hostless_fraction: Share


@dataclass(frozen=True)
class EventSettings:
    """What else differs between the images, mean numbers per frame: all off."""

    variable_star_per_frame: Amount
    variable_star_amplitude: Amount
    agn_per_frame: Amount
    agn_host_mag: Range
    agn_share: Annotated[tuple[float, float], Span(Number(0.0, 1.0))]
    agn_amplitude: Amount
    asteroid_per_frame: Amount
    asteroid_mag: Range
    asteroid_slope: Annotated[float, Number(-2.0, 2.0)]
    asteroid_trail_px: Range
    fading_per_frame: Amount
    cc_sn_per_frame: Amount
    cc_sn_mag: Amount
    cc_sn_host_mag: Amount
    cc_sn_offset: Amount
    tde_per_frame: Amount
    tde_mag: Amount
    tde_host_mag: Amount
    tde_offset: Amount
    kilonova_per_frame: Amount
    kilonova_mag: Amount
    kilonova_host_mag: Amount
    kilonova_offset: Amount
    nova_per_frame: Amount
    nova_mag: Amount
    nova_host_mag: Amount
    nova_offset: Amount


@dataclass(frozen=True)
class ExposureSettings:
    """How the sky is observed, twice. Noise is in ADU per px at `zero_point`."""

    zero_point: Amount
    zero_point_scatter: Amount
    calibration_error: Amount
    search_fwhm_px: Annotated[float, Number(1.5, 20.0)]
    search_fwhm_scatter: Amount
    template_fwhm_px: Annotated[float, Number(1.5, 20.0)]
    template_fwhm_scatter: Amount
    fwhm_range_px: Annotated[tuple[float, float], Span(Number(1.5, 20.0))]
    moffat_beta: Annotated[float, Number(2.2, 20.0)]
    psf_ellipticity: Annotated[float, Number(0.0, 0.3)]
    psf_variation: Annotated[float, Number(0.0, 0.3)]
    psf_variation_ellipticity: Annotated[float, Number(0.0, 0.2)]
    brighter_fatter: Amount
    colour_seeing: Annotated[float, Number(0.0, 0.1)]
    sky_noise: Annotated[float, Number(0.001, 1e06)]
    sky_noise_scatter: Amount
    shot_noise: Amount
    deep_fraction: Share
    deep_exposures: Annotated[tuple[int, int], Span(Whole(1))]
    template_exposures: Annotated[tuple[int, int], Span(Whole(1))]
    sky_level: Amount
    sky_gradient: Amount
    registration_px: Amount
    registration_warp_px: Amount
    registration_source_px: Amount
    refraction_px: Amount
    flat_error: Annotated[float, Number(0.0, 0.2)]
    coadd_resamplings: Annotated[int, Whole(0, 4)]
    template_resamplings: Annotated[int, Whole(0, 4)]
    saturation: Annotated[float, Number(1.0, 1e12)]
    saturation_growth_px: Annotated[int, Whole(0, 10)]


@dataclass(frozen=True)
class ArtefactSettings:
    """Mean numbers per frame of what is not in the sky."""

    cosmic_rays: Amount
    hot_pixels: Amount
    bad_columns: Amount
    ghosts: Amount
    trails: Amount
    masked_cosmic_rays: Amount
    masked_columns: Amount
    masked_trails: Amount


@dataclass(frozen=True)
class SubtractionSettings:
    """PSF matching after Alard & Lupton (1998) and Alard (2000)."""

    kernel_size: Annotated[int, Whole(5, 51, odd=True)]
    kernel_sigmas_px: Annotated[tuple[float, ...], Items(Number(0.2, 20.0), least=1)]
    kernel_degrees: Annotated[tuple[int, ...], Items(Whole(0, 8), least=1)]
    kernel_order: Annotated[int, Whole(0, 3)]
    background_order: Annotated[int, Whole(0, 4)]
    regions: Annotated[int, Whole(4, 10000)]
    region_size: Annotated[int, Whole(9, 201, odd=True)]
    clip_sigma: Annotated[float, Number(1.0, 1e06)]
    clip_rounds: Annotated[int, Whole(0, 20)]


@dataclass(frozen=True)
class DetectionSettings:
    """When something in the difference image is a candidate, and how large its stamp is."""

    threshold: Annotated[float, Number(0.1, 1e06)]
    filter_fwhm_px: Annotated[float, Number(0.5, 20.0)]
    min_area: Annotated[int, Whole(1, 10000)]
    deblend_contrast: Share
    snr_min: Amount
    max_ellipticity: Share
    dipole_depth: Amount
    dipole_pixels: Count
    negative: Annotated[bool, Choice((True, False))]
    match_radius_px: Annotated[float, Number(0.1, 25.0)]
    match_snr: Amount
    reference_threshold: Amount
    reference_radius_arcsec: Amount
    stamp_size: Annotated[int, Whole(9, 255)]


@dataclass(frozen=True)
class SurveySettings:
    """All of it, with the seed, and the arrays that are kept beside the stamps."""

    seed: Annotated[int, Whole(0)]
    planes: Annotated[tuple[str, ...], Items(Choice(OPTIONAL))]
    scene: SceneSettings
    events: EventSettings
    exposure: ExposureSettings
    artefacts: ArtefactSettings
    subtraction: SubtractionSettings
    detection: DetectionSettings

    def digest(self) -> str:
        """Hash of everything that the set depends on, 16 hexadecimal digits."""
        text = json.dumps({"code": CODE_VERSION, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def defaults() -> dict[str, Any]:
    """The values of ``conf/data/simulated.yaml``: seed, planes and the groups."""
    file = project_root() / "conf" / "data" / "simulated.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {field.name: values[field.name] for field in fields(SurveySettings)}


def settings_from_config(config: Mapping[str, Any]) -> SurveySettings:
    """Check a configuration and turn it into settings.

    Parameters
    ----------
    config : mapping
        ``seed``, ``planes`` and the groups of `SurveySettings`, each a mapping; what is left out
        is as in the file. Keys of other concern (``candidates``, ``cache`` ...) must be removed
        before.

    Returns
    -------
    SurveySettings
        The checked settings.

    Raises
    ------
    UserError
        A key is unknown or its value makes no sense; the message names the key.
    """
    whole = {
        key: {**value, **config[key]}
        if isinstance(value, Mapping) and isinstance(config.get(key), Mapping)
        else config.get(key, value)
        for key, value in defaults().items()
    }
    settings = read(SurveySettings, {**config, **whole}, "data")
    _check_together(settings)
    return settings


def split_config(
    config: Mapping[str, Any],
    rules: Mapping[str, Rule],
    defaults: Mapping[str, Any],
    left_out: tuple[str, ...] = (),
) -> tuple[SurveySettings, dict[str, Any]]:
    """What the pixels of the survey depend on, and the other settings of a source; all checked.

    Parameters
    ----------
    config : mapping
        A ``data`` configuration.
    rules, defaults : mapping
        Of the settings beside those of the survey.
    left_out : tuple of str
        Keys that say nothing to this source.
    """
    others = ("name", "cache", *left_out, *rules)
    physics = {key: value for key, value in config.items() if key not in others}
    return settings_from_config(physics), check({**defaults, **config}, rules, "data")


def _check_together(settings: SurveySettings) -> None:
    scene, subtraction = settings.scene, settings.subtraction
    if len(subtraction.kernel_sigmas_px) != len(subtraction.kernel_degrees):
        raise UserError(
            "data.subtraction.kernel_sigmas_px and kernel_degrees must have equally many entries"
        )
    if subtraction.region_size + subtraction.kernel_size > scene.frame_size // 2:
        raise UserError(
            "data.subtraction.region_size and kernel_size do not fit data.scene.frame_size="
            f"{scene.frame_size}: make the frame larger"
        )
    size = settings.detection.stamp_size
    if 2 * size > scene.frame_size:
        raise UserError(
            f"data.detection.stamp_size={size} is too large for data.scene.frame_size="
            f"{scene.frame_size}: make the frame larger"
        )
    # Every supernova keeps its distance; discs of that radius cover a plane to 0.55 at random.
    room = 0.5 * (scene.frame_size - size) ** 2
    if scene.sn_per_frame * math.pi * (scene.sn_separation_px / 2.0) ** 2 > room:
        raise UserError(
            f"data.scene.sn_per_frame={scene.sn_per_frame} do not fit a frame of "
            f"{scene.frame_size} px at data.scene.sn_separation_px={scene.sn_separation_px:g}"
        )
    if settings.events.fading_per_frame > 0 and not settings.detection.negative:
        raise UserError(
            "data.events.fading_per_frame: what fades is only found with "
            "data.detection.negative=true"
        )
