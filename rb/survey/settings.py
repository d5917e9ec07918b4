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
from dataclasses import dataclass, field
from typing import Annotated, Any

from rb.errors import UserError
from rb.settings import Choice, Count, Items, Number, Share, Span, Whole, read
from rb.stamps.stampset import STAMP_SIZE

CODE_VERSION = 1
"""Raised whenever a change of the simulator changes its pixels, so that old caches are not used."""

Amount = Annotated[float, Number(0)]
Range = Annotated[tuple[float, float], Span(Number(0))]


@dataclass(frozen=True)
class SceneSettings:
    """What is in the sky. Magnitudes are total AB magnitudes, densities per square arcmin."""

    frame_size: Annotated[int, Whole(2 * STAMP_SIZE, 8192)] = 640
    pixel_scale: Annotated[float, Number(0.001, 60.0)] = 0.263
    renderer: Annotated[str, Choice(("mixture", "galsim"))] = "mixture"
    galaxy_density: Amount = 34.0
    galaxy_mag: Range = (17.0, 24.6)
    galaxy_slope: Annotated[float, Number(-2.0, 2.0)] = 0.31
    galaxy_radius_arcsec: Amount = 0.4
    galaxy_radius_slope: Amount = 0.12
    galaxy_radius_scatter: Amount = 0.16
    star_density: Amount = 9.5
    star_mag: Range = (16.4, 22.8)
    star_slope: Annotated[float, Number(-2.0, 2.0)] = 0.25
    proper_motion_px: Amount = 0.03
    sn_per_frame: Count = 30
    sn_mag: Range = (18.5, 26.0)
    sn_mag_peak: Amount = 23.6
    sn_mag_width: Annotated[float, Number(0.001, 100.0)] = 1.5
    sn_separation_px: Amount = 30.0
    host_mag: Range = (17.0, 25.8)
    host_mag_peak: Amount = 22.2
    host_mag_width: Annotated[float, Number(0.001, 100.0)] = 1.9
    hostless_fraction: Share = 0.02


@dataclass(frozen=True)
class ExposureSettings:
    """How the sky is observed, twice. Noise is in ADU per px at `zero_point`."""

    zero_point: Amount = 31.2
    zero_point_scatter: Amount = 0.15
    calibration_error: Amount = 0.01
    search_fwhm_px: Annotated[float, Number(1.5, 20.0)] = 3.9
    search_fwhm_scatter: Amount = 0.23
    template_fwhm_px: Annotated[float, Number(1.5, 20.0)] = 3.5
    template_fwhm_scatter: Amount = 0.1
    fwhm_range_px: Annotated[tuple[float, float], Span(Number(1.5, 20.0))] = (2.8, 8.0)
    moffat_beta: Annotated[float, Number(2.2, 20.0)] = 3.0
    psf_ellipticity: Annotated[float, Number(0.0, 0.3)] = 0.03
    psf_variation: Annotated[float, Number(0.0, 0.3)] = 0.008
    psf_variation_ellipticity: Annotated[float, Number(0.0, 0.2)] = 0.01
    brighter_fatter: Amount = 0.004
    sky_noise: Annotated[float, Number(0.001, 1e06)] = 32.0
    sky_noise_scatter: Amount = 0.45
    shot_noise: Amount = 1.5
    deep_fraction: Share = 0.3
    deep_exposures: Annotated[tuple[int, int], Span(Whole(1))] = (5, 12)
    template_exposures: Annotated[tuple[int, int], Span(Whole(1))] = (6, 20)
    sky_level: Amount = 60.0
    sky_gradient: Amount = 5.0
    registration_px: Amount = 0.07
    registration_warp_px: Amount = 0.06
    registration_source_px: Amount = 0.055
    saturation: Annotated[float, Number(1.0, 1e12)] = 170000.0


@dataclass(frozen=True)
class ArtefactSettings:
    """Mean numbers per frame of what is not in the sky."""

    cosmic_rays: Amount = 0.6
    hot_pixels: Amount = 0.3
    bad_columns: Amount = 0.03
    ghosts: Amount = 0.05
    trails: Amount = 0.02


@dataclass(frozen=True)
class SubtractionSettings:
    """PSF matching after Alard & Lupton (1998) and Alard (2000)."""

    kernel_size: Annotated[int, Whole(5, 51, odd=True)] = 21
    kernel_sigmas_px: Annotated[tuple[float, ...], Items(Number(0.2, 20.0), least=1)] = (
        0.7,
        1.5,
        3.0,
    )
    kernel_degrees: Annotated[tuple[int, ...], Items(Whole(0, 8), least=1)] = (4, 3, 2)
    kernel_order: Annotated[int, Whole(0, 3)] = 0
    background_order: Annotated[int, Whole(0, 4)] = 1
    regions: Annotated[int, Whole(4, 10000)] = 40
    region_size: Annotated[int, Whole(9, 201, odd=True)] = 31
    clip_sigma: Annotated[float, Number(1.0, 1e06)] = 3.0
    clip_rounds: Annotated[int, Whole(0, 20)] = 2


@dataclass(frozen=True)
class DetectionSettings:
    """When something in the difference image is a candidate."""

    threshold: Annotated[float, Number(0.1, 1e06)] = 1.4
    filter_fwhm_px: Annotated[float, Number(0.5, 20.0)] = 2.5
    min_area: Annotated[int, Whole(1, 10000)] = 1
    deblend_contrast: Share = 0.01
    snr_min: Amount = 3.5
    max_ellipticity: Share = 0.88
    match_radius_px: Annotated[float, Number(0.1, 25.0)] = 2.5
    match_snr: Amount = 3.0
    reference_threshold: Amount = 1.5
    reference_radius_arcsec: Amount = 5.0


@dataclass(frozen=True)
class SurveySettings:
    """All of it, with the seed."""

    seed: Annotated[int, Whole(0)] = 1
    scene: SceneSettings = field(default_factory=SceneSettings)
    exposure: ExposureSettings = field(default_factory=ExposureSettings)
    artefacts: ArtefactSettings = field(default_factory=ArtefactSettings)
    subtraction: SubtractionSettings = field(default_factory=SubtractionSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)

    def digest(self) -> str:
        """Hash of everything that the pixels depend on, 16 hexadecimal digits."""
        text = json.dumps({"code": CODE_VERSION, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    settings = read(SurveySettings, config, "data")
    _check_together(settings)
    return settings


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
    # Every supernova keeps its distance; discs of that radius cover a plane to 0.55 at random.
    room = 0.5 * (scene.frame_size - STAMP_SIZE) ** 2
    if scene.sn_per_frame * math.pi * (scene.sn_separation_px / 2.0) ** 2 > room:
        raise UserError(
            f"data.scene.sn_per_frame={scene.sn_per_frame} do not fit a frame of "
            f"{scene.frame_size} px at data.scene.sn_separation_px={scene.sn_separation_px:g}"
        )
