"""Keep a frame: images as FITS with a WCS, the truth as a FITS table.

Files of frame 12: ``00012_search.fits``, ``00012_template.fits``, ``00012_difference.fits`` and
``00012_truth.fits``. Header keywords of the images, beside the WCS:

========  =====================================================
FRAME     frame number
FIELD     name of the field
IMTYPE    search, template or difference
MAGZERO   zero point, magnitude of 1 ADU (measured)
SEEING    FWHM of the PSF, arcsec
SKYNOISE  noise of the blank sky, ADU per px
NCOMBINE  number of exposures added
GAIN      electrons per ADU
SATURATE  level of saturated pixels, ADU
BUNIT     ADU
========  =====================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rb.io.files import written
from rb.survey.camera.observation import Observation
from rb.survey.camera.wcs import Pointing
from rb.survey.pipeline.labels import Labels
from rb.survey.sky.scene import Scene

IMAGES = ("search", "template", "difference")


def frame_files(folder: Path, number: int) -> list[Path]:
    """The files that one kept frame consists of."""
    return [folder / f"{number:05d}_{name}.fits" for name in (*IMAGES, "truth")]


def write_frame(
    folder: Path,
    observation: Observation,
    difference: NDArray[np.float32],
    labels: Labels,
) -> None:
    """Write the four files of one frame; each appears under its name when it is whole.

    Parameters
    ----------
    folder : Path
        Where to; it is created.
    observation : Observation
        The images and the truth.
    difference : ndarray of shape (height, width)
        The difference image, in the search image's flux scale.
    labels : Labels
        What is behind the detections, for the truth table's column FOUND.

    Raises
    ------
    UserError
        The folder cannot be written to.
    """
    from astropy.io import fits

    number, pointing = observation.number, observation.pointing
    search, template = observation.search, observation.template
    recovered = labels.event[labels.event >= 0]
    header = pointing.wcs().to_header()
    header["FRAME"] = (number, "frame number")
    header["FIELD"] = (pointing.field, "field")
    header["BUNIT"] = "ADU"
    night, deep = search.conditions, template.conditions
    images = {
        "search": (search.image, night),
        "template": (template.image, deep),
        "difference": (difference, night),
    }
    units: dict[str, fits.HDUList] = {}
    for name, (image, conditions) in images.items():
        own = header.copy()
        own["IMTYPE"] = (name, "search, template or difference")
        own["MAGZERO"] = (conditions.zero_point_measured, "magnitude of 1 ADU")
        own["SEEING"] = (conditions.psf.fwhm * pointing.pixel_scale, "FWHM of the PSF, arcsec")
        own["SKYNOISE"] = (conditions.sky_noise, "noise of the blank sky, ADU per px")
        own["NCOMBINE"] = (conditions.exposures, "number of exposures added")
        own["SATURATE"] = (conditions.saturation, "ADU, level of saturated pixels")
        if conditions.shot_noise > 0:
            own["GAIN"] = (1.0 / conditions.shot_noise, "electrons per ADU")
        units[name] = fits.HDUList([fits.PrimaryHDU(np.asarray(image, np.float32), own)])
    units["truth"] = fits.HDUList(
        [fits.PrimaryHDU(), _truth_table(observation.scene, recovered, pointing, number)]
    )
    for path, name in zip(frame_files(folder, number), (*IMAGES, "truth"), strict=True):
        with written(path, f"frame {number}") as temporary:
            units[name].writeto(temporary, output_verify="exception")


def _truth_table(
    scene: Scene, recovered: NDArray[np.int64], pointing: Pointing, number: int
) -> Any:
    from astropy.io import fits

    galaxies, stars, events = scene.galaxies.whole, scene.stars, scene.events
    x = np.concatenate([galaxies.x, stars.x, events.x])
    y = np.concatenate([galaxies.y, stars.y, events.y])
    ra, dec = pointing.sky(x, y)
    extended = len(galaxies.x)
    kind = np.full(len(x), "galaxy", dtype="U16")
    kind[extended:] = "star"
    host = np.full(len(x), -1)
    found = np.zeros(len(x), dtype=bool)
    radius, index = np.zeros(len(x)), np.ones(len(x))
    radius[:extended], index[:extended] = galaxies.radius, galaxies.index
    first = len(x) - len(events)
    kind[first:], host[first:] = events.kind, events.host
    found[first + recovered] = True
    mag = np.concatenate([scene.galaxies.mag, scene.star_mag, scene.event_mag])
    columns = [
        fits.Column("KIND", "16A", array=kind),
        fits.Column("X", "D", "pix", array=x),
        fits.Column("Y", "D", "pix", array=y),
        fits.Column("RA", "D", "deg", array=ra),
        fits.Column("DEC", "D", "deg", array=dec),
        fits.Column("MAG", "D", "mag", array=mag),
        fits.Column("RADIUS", "D", "arcsec", array=radius * pointing.pixel_scale),
        fits.Column("SERSIC", "D", array=index),
        fits.Column("HOST", "J", array=host),
        fits.Column("FOUND", "L", array=found),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="TRUTH")
    table.header["FRAME"] = (number, "frame number")
    table.header.comments["TTYPE2"] = "pixel centres count from 0"
    table.header.comments["TTYPE9"] = "row of the host in this table, from 0"
    return table
