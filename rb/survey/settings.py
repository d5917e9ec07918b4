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
from typing import Any, TypeVar

import yaml

from rb.config import project_root
from rb.errors import UserError
from rb.stamps.layout import OPTIONAL

CODE_VERSION = 3
"""Raised whenever a change of the simulator changes its sets, so that old caches are not used."""


@dataclass(frozen=True)
class SceneSettings:
    """What is in the sky. Magnitudes are total AB magnitudes, densities per square arcmin."""

    frame_size: int
    pixel_scale: float
    renderer: str
    galaxy_density: float
    galaxy_mag: tuple[float, float]
    galaxy_slope: float
    galaxy_radius_arcsec: float
    galaxy_radius_slope: float
    galaxy_radius_scatter: float
    galaxy_knots: float
    galaxy_knots_share: float
    star_density: float
    star_mag: tuple[float, float]
    star_slope: float
    proper_motion_px: float
    sn_per_frame: int
    sn_mag: tuple[float, float]
    sn_mag_peak: float
    sn_mag_width: float
    sn_separation_px: float
    sn_offset: float
    host_mag: tuple[float, float]
    host_mag_peak: float
    host_mag_width: float
    host_correlation: float
    hostless_fraction: float


@dataclass(frozen=True)
class EventSettings:
    """What else differs between the images, mean numbers per frame: all off."""

    variable_star_per_frame: float
    variable_star_amplitude: float
    agn_per_frame: float
    agn_host_mag: tuple[float, float]
    agn_share: tuple[float, float]
    agn_amplitude: float
    asteroid_per_frame: float
    asteroid_mag: tuple[float, float]
    asteroid_slope: float
    asteroid_trail_px: tuple[float, float]
    fading_per_frame: float
    cc_sn_per_frame: float
    cc_sn_mag: float
    cc_sn_host_mag: float
    cc_sn_offset: float
    tde_per_frame: float
    tde_mag: float
    tde_host_mag: float
    tde_offset: float
    kilonova_per_frame: float
    kilonova_mag: float
    kilonova_host_mag: float
    kilonova_offset: float
    nova_per_frame: float
    nova_mag: float
    nova_host_mag: float
    nova_offset: float


@dataclass(frozen=True)
class ExposureSettings:
    """How the sky is observed, twice. Noise is in ADU per px at `zero_point`."""

    zero_point: float
    zero_point_scatter: float
    calibration_error: float
    search_fwhm_px: float
    search_fwhm_scatter: float
    template_fwhm_px: float
    template_fwhm_scatter: float
    fwhm_range_px: tuple[float, float]
    moffat_beta: float
    psf_ellipticity: float
    psf_variation: float
    psf_variation_ellipticity: float
    brighter_fatter: float
    colour_seeing: float
    sky_noise: float
    sky_noise_scatter: float
    shot_noise: float
    deep_fraction: float
    deep_exposures: tuple[int, int]
    template_exposures: tuple[int, int]
    sky_level: float
    sky_gradient: float
    registration_px: float
    registration_warp_px: float
    registration_source_px: float
    refraction_px: float
    flat_error: float
    coadd_resamplings: int
    template_resamplings: int
    saturation: float
    saturation_growth_px: int


@dataclass(frozen=True)
class ArtefactSettings:
    """Mean numbers per frame of what is not in the sky."""

    cosmic_rays: float
    hot_pixels: float
    bad_columns: float
    ghosts: float
    trails: float
    masked_cosmic_rays: float
    masked_columns: float
    masked_trails: float


@dataclass(frozen=True)
class SubtractionSettings:
    """PSF matching after Alard & Lupton (1998) and Alard (2000)."""

    kernel_size: int
    kernel_sigmas_px: tuple[float, ...]
    kernel_degrees: tuple[int, ...]
    kernel_order: int
    background_order: int
    regions: int
    region_size: int
    clip_sigma: float
    clip_rounds: int


@dataclass(frozen=True)
class DetectionSettings:
    """When something in the difference image is a candidate, and how large its stamp is."""

    threshold: float
    filter_fwhm_px: float
    min_area: int
    deblend_contrast: float
    snr_min: float
    max_ellipticity: float
    dipole_depth: float
    dipole_pixels: int
    negative: bool
    match_radius_px: float
    match_snr: float
    reference_threshold: float
    reference_radius_arcsec: float
    stamp_size: int


@dataclass(frozen=True)
class SurveySettings:
    """All of it, with the seed, and the arrays that are kept beside the stamps."""

    seed: int
    planes: tuple[str, ...]
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
    "scene.frame_size": (100, 8192),
    "scene.pixel_scale": (1e-3, 60.0),
    "scene.galaxy_slope": (-2.0, 2.0),
    "scene.star_slope": (-2.0, 2.0),
    "scene.sn_mag_width": (1e-3, 100.0),
    "scene.host_mag_width": (1e-3, 100.0),
    "scene.hostless_fraction": (0.0, 1.0),
    "scene.host_correlation": (-0.99, 0.99),
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
    "detection.stamp_size": (9, 255),
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


def _value(key: str, value: Any, annotation: str) -> Any:
    if annotation == "bool":
        if not isinstance(value, bool):
            raise UserError(f"data.{key} must be true or false, not {value!r}")
        return value
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
        key: _value(f"{name}.{key}", value, str(known[key].type))
        for key, value in {**defaults()[name], **given}.items()
    }
    return kind(**values)


@lru_cache(maxsize=1)
def defaults() -> dict[str, Any]:
    """The values of ``conf/data/simulated.yaml``: seed, planes and the groups."""
    file = project_root() / "conf" / "data" / "simulated.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {key: values[key] for key in ("seed", "planes", *GROUPS)}


def _planes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__") or not set(value) <= {*OPTIONAL}:
        raise UserError(f"data.planes must be a list of {' and '.join(OPTIONAL)}, not {value!r}")
    return tuple(name for name in OPTIONAL if name in value)


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
    groups: dict[str, Any] = {}
    for key, value in {**defaults(), **config}.items():
        if key == "seed":
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UserError(f"data.seed must be a whole number >= 0, not {value!r}")
            groups[key] = value
        elif key == "planes":
            groups[key] = _planes(value)
        elif key in GROUPS:
            groups[key] = _group(key, GROUPS[key], value)
        else:
            raise UserError(f"data.{key} is not a setting; known are {', '.join(defaults())}")
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
    if settings.exposure.deep_exposures[0] < 1 or settings.exposure.template_exposures[0] < 1:
        raise UserError("data.exposure.deep_exposures and template_exposures must be 1 or more")
