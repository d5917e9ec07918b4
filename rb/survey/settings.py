"""Every number that the simulated survey depends on, checked before anything is simulated.

`conf/data/simulated.yaml` holds the same keys with a unit and a source for each; the defaults here
are the same values, which a test keeps so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from rb.errors import UserError
from rb.stamps.stampset import STAMP_SIZE

CODE_VERSION = 2
"""Raised whenever a change of the simulator changes its pixels, so that old caches are not used."""


@dataclass(frozen=True)
class SceneSettings:
    """What is in the sky. Magnitudes are total AB magnitudes, densities per square arcmin."""

    frame_size: int = 640
    pixel_scale: float = 0.263
    renderer: str = "mixture"
    galaxy_density: float = 34.0
    galaxy_mag: tuple[float, float] = (17.0, 24.6)
    galaxy_slope: float = 0.31
    galaxy_radius_arcsec: float = 0.4
    galaxy_radius_slope: float = 0.12
    galaxy_radius_scatter: float = 0.16
    galaxy_knots: float = 8.0
    galaxy_knots_share: float = 0.4
    star_density: float = 9.5
    star_mag: tuple[float, float] = (16.4, 22.8)
    star_slope: float = 0.25
    proper_motion_px: float = 0.03
    sn_per_frame: int = 30
    sn_mag: tuple[float, float] = (18.5, 26.0)
    sn_mag_peak: float = 23.6
    sn_mag_width: float = 1.5
    sn_separation_px: float = 30.0
    sn_offset: float = 0.8
    host_mag: tuple[float, float] = (17.0, 25.8)
    host_mag_peak: float = 22.2
    host_mag_width: float = 1.9
    hostless_fraction: float = 0.02


@dataclass(frozen=True)
class EventSettings:
    """What else differs between the images, mean numbers per frame: all off."""

    variable_star_per_frame: float = 0.0
    variable_star_amplitude: float = 0.3
    agn_per_frame: float = 0.0
    agn_share: tuple[float, float] = (0.1, 0.7)
    agn_amplitude: float = 0.3
    asteroid_per_frame: float = 0.0
    asteroid_mag: tuple[float, float] = (18.0, 24.0)
    asteroid_slope: float = 0.3
    asteroid_trail_px: tuple[float, float] = (1.0, 7.0)
    fading_per_frame: float = 0.0
    cc_sn_per_frame: float = 0.0
    cc_sn_mag: float = 24.0
    cc_sn_host_mag: float = 21.8
    cc_sn_offset: float = 1.2
    tde_per_frame: float = 0.0
    tde_mag: float = 22.5
    tde_host_mag: float = 20.5
    tde_offset: float = 0.0
    kilonova_per_frame: float = 0.0
    kilonova_mag: float = 23.0
    kilonova_host_mag: float = 19.0
    kilonova_offset: float = 1.8
    nova_per_frame: float = 0.0
    nova_mag: float = 22.0
    nova_host_mag: float = 17.0
    nova_offset: float = 1.0


@dataclass(frozen=True)
class ExposureSettings:
    """How the sky is observed, twice. Noise is in ADU per px at `zero_point`."""

    zero_point: float = 31.2
    zero_point_scatter: float = 0.15
    calibration_error: float = 0.01
    search_fwhm_px: float = 3.9
    search_fwhm_scatter: float = 0.23
    template_fwhm_px: float = 3.5
    template_fwhm_scatter: float = 0.1
    fwhm_range_px: tuple[float, float] = (2.8, 8.0)
    moffat_beta: float = 3.0
    psf_ellipticity: float = 0.03
    psf_variation: float = 0.008
    psf_variation_ellipticity: float = 0.01
    brighter_fatter: float = 0.004
    colour_seeing: float = 0.01
    sky_noise: float = 32.0
    sky_noise_scatter: float = 0.45
    shot_noise: float = 1.5
    deep_fraction: float = 0.3
    deep_exposures: tuple[int, int] = (5, 12)
    template_exposures: tuple[int, int] = (6, 20)
    sky_level: float = 60.0
    sky_gradient: float = 5.0
    registration_px: float = 0.07
    registration_warp_px: float = 0.06
    registration_source_px: float = 0.055
    refraction_px: float = 0.05
    flat_error: float = 0.003
    coadd_resamplings: int = 1
    template_resamplings: int = 2
    saturation: float = 60000.0
    saturation_growth_px: int = 2


@dataclass(frozen=True)
class ArtefactSettings:
    """Mean numbers per frame of what is not in the sky."""

    cosmic_rays: float = 0.6
    hot_pixels: float = 0.3
    bad_columns: float = 0.03
    ghosts: float = 0.05
    trails: float = 0.02
    masked_cosmic_rays: float = 3.0
    masked_columns: float = 0.5
    masked_trails: float = 0.03


@dataclass(frozen=True)
class SubtractionSettings:
    """PSF matching after Alard & Lupton (1998) and Alard (2000)."""

    kernel_size: int = 21
    kernel_sigmas_px: tuple[float, ...] = (0.7, 1.5, 3.0)
    kernel_degrees: tuple[int, ...] = (4, 3, 2)
    kernel_order: int = 0
    background_order: int = 1
    regions: int = 40
    region_size: int = 31
    clip_sigma: float = 3.0
    clip_rounds: int = 2


@dataclass(frozen=True)
class DetectionSettings:
    """When something in the difference image is a candidate."""

    threshold: float = 1.4
    filter_fwhm_px: float = 2.5
    min_area: int = 1
    deblend_contrast: float = 0.01
    snr_min: float = 3.5
    max_ellipticity: float = 0.88
    dipole_box_px: tuple[int, ...] = (5, 17)
    dipole_depth: tuple[float, ...] = (6.0, 4.0)
    dipole_pixels: tuple[int, ...] = (1, 19)
    match_radius_px: float = 2.5
    match_snr: float = 3.0
    reference_threshold: float = 1.5
    reference_radius_arcsec: float = 5.0


@dataclass(frozen=True)
class SurveySettings:
    """All of it, with the seed."""

    seed: int = 1
    scene: SceneSettings = field(default_factory=SceneSettings)
    events: EventSettings = field(default_factory=EventSettings)
    exposure: ExposureSettings = field(default_factory=ExposureSettings)
    artefacts: ArtefactSettings = field(default_factory=ArtefactSettings)
    subtraction: SubtractionSettings = field(default_factory=SubtractionSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)

    def digest(self) -> str:
        """Hash of everything that the pixels depend on, 16 hexadecimal digits."""
        text = json.dumps({"code": CODE_VERSION, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


GROUPS = {
    "scene": SceneSettings,
    "events": EventSettings,
    "exposure": ExposureSettings,
    "artefacts": ArtefactSettings,
    "subtraction": SubtractionSettings,
    "detection": DetectionSettings,
}

# Bounds that make a setting nonsensical when crossed; everything not named must be >= 0.
_BOUNDS: dict[str, tuple[float, float]] = {
    "scene.frame_size": (2 * STAMP_SIZE, 8192),
    "scene.pixel_scale": (1e-3, 60.0),
    "scene.galaxy_slope": (-2.0, 2.0),
    "scene.star_slope": (-2.0, 2.0),
    "scene.sn_mag_width": (1e-3, 100.0),
    "scene.host_mag_width": (1e-3, 100.0),
    "scene.hostless_fraction": (0.0, 1.0),
    "scene.galaxy_knots_share": (0.0, 1.0),
    "events.agn_share": (0.0, 1.0),
    "events.asteroid_slope": (-2.0, 2.0),
    "exposure.colour_seeing": (0.0, 0.1),
    "exposure.flat_error": (0.0, 0.2),
    "exposure.coadd_resamplings": (0, 4),
    "exposure.template_resamplings": (0, 4),
    "exposure.saturation_growth_px": (0, 10),
    "exposure.search_fwhm_px": (1.5, 20.0),
    "exposure.template_fwhm_px": (1.5, 20.0),
    "exposure.fwhm_range_px": (1.5, 20.0),
    "exposure.moffat_beta": (2.2, 20.0),
    "exposure.psf_ellipticity": (0.0, 0.3),
    "exposure.psf_variation": (0.0, 0.3),
    "exposure.psf_variation_ellipticity": (0.0, 0.2),
    "exposure.sky_noise": (1e-3, 1e6),
    "exposure.deep_fraction": (0.0, 1.0),
    "exposure.saturation": (1.0, 1e12),
    "subtraction.kernel_size": (5, 51),
    "subtraction.kernel_sigmas_px": (0.2, 20.0),
    "subtraction.kernel_degrees": (0, 8),
    "subtraction.kernel_order": (0, 3),
    "subtraction.background_order": (0, 4),
    "subtraction.regions": (4, 10000),
    "subtraction.region_size": (9, 201),
    "subtraction.clip_sigma": (1.0, 1e6),
    "subtraction.clip_rounds": (0, 20),
    "detection.threshold": (0.1, 1e6),
    "detection.filter_fwhm_px": (0.5, 20.0),
    "detection.min_area": (1, 10000),
    "detection.deblend_contrast": (0.0, 1.0),
    "detection.max_ellipticity": (0.0, 1.0),
    "detection.match_radius_px": (0.1, 25.0),
}

_Group = TypeVar("_Group")


def _number(key: str, value: Any, kind: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"data.{key} must be a number, not {value!r}")
    if kind == "int" and int(value) != value:
        raise UserError(f"data.{key} must be a whole number, not {value!r}")
    low, high = _BOUNDS.get(key, (0.0, math.inf))
    if not low <= value <= high:
        raise UserError(f"data.{key}={value} is outside the sensible range {low:g} to {high:g}")
    return int(value) if kind == "int" else float(value)


def _value(key: str, value: Any, annotation: str, default: Any) -> Any:
    if annotation == "str":
        if value not in ("mixture", "galsim"):
            raise UserError(f"data.{key} must be mixture or galsim, not {value!r}")
        return value
    if annotation.startswith("tuple"):
        kind = "int" if "int" in annotation else "float"
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise UserError(f"data.{key} must be a list of numbers, not {value!r}")
        numbers = tuple(_number(key, item, kind) for item in value)
        if "..." not in annotation:
            if len(numbers) != 2 or numbers[0] > numbers[1]:
                raise UserError(f"data.{key} must be [lowest, highest], not {list(numbers)}")
        elif not numbers:
            raise UserError(f"data.{key} must not be empty")
        return numbers
    return _number(key, value, annotation)


def _group(name: str, kind: type[_Group], given: Any) -> _Group:
    if not isinstance(given, Mapping):
        raise UserError(f"data.{name} must be a group of settings, not {given!r}")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UserError(f"data.{name}.{key} is not a setting; known are {', '.join(known)}")
    values = {
        key: _value(f"{name}.{key}", value, str(known[key].type), known[key].default)
        for key, value in given.items()
    }
    return kind(**values)


def settings_from_config(config: Mapping[str, Any]) -> SurveySettings:
    """Check a configuration and turn it into settings.

    Parameters
    ----------
    config : mapping
        ``seed`` and the groups of `SurveySettings`, each a mapping; what is left out keeps its
        default. Keys of other concern (``candidates``, ``cache`` ...) must be removed before.

    Returns
    -------
    SurveySettings
        The checked settings.

    Raises
    ------
    UserError
        A key is unknown or its value makes no sense; the message names the key.
    """
    groups: dict[str, Any] = {}
    for key, value in config.items():
        if key == "seed":
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UserError(f"data.seed must be a whole number >= 0, not {value!r}")
            groups[key] = value
        elif key in GROUPS:
            groups[key] = _group(key, GROUPS[key], value)
        else:
            raise UserError(f"data.{key} is not a setting; known are seed, {', '.join(GROUPS)}")
    settings = SurveySettings(**groups)
    _check_together(settings)
    return settings


def _check_together(settings: SurveySettings) -> None:
    scene, subtraction = settings.scene, settings.subtraction
    if len(subtraction.kernel_sigmas_px) != len(subtraction.kernel_degrees):
        raise UserError(
            "data.subtraction.kernel_sigmas_px and kernel_degrees must have equally many entries"
        )
    for key in ("kernel_size", "region_size"):
        if getattr(subtraction, key) % 2 == 0:
            raise UserError(f"data.subtraction.{key} must be odd, so that it has a central pixel")
    if subtraction.region_size + subtraction.kernel_size > scene.frame_size // 2:
        raise UserError(
            "data.subtraction.region_size and kernel_size do not fit data.scene.frame_size="
            f"{scene.frame_size}: make the frame larger"
        )
    # Every supernova keeps its distance; discs of that radius cover a plane to 0.55 at random.
    room = 0.5 * (scene.frame_size - STAMP_SIZE) ** 2
    if scene.sn_per_frame * math.pi * (scene.sn_separation_px / 2.0) ** 2 > room:
        raise UserError(
            f"data.scene.sn_per_frame={scene.sn_per_frame} do not fit a frame of "
            f"{scene.frame_size} px at data.scene.sn_separation_px={scene.sn_separation_px:g}"
        )
    if settings.exposure.deep_exposures[0] < 1 or settings.exposure.template_exposures[0] < 1:
        raise UserError("data.exposure.deep_exposures and template_exposures must be 1 or more")
