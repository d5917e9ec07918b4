"""Where a frame lies on the sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS = {
    "C1": (54.2743, -27.1116),
    "C2": (54.2743, -29.0884),
    "C3": (52.6484, -28.1000),
    "E1": (7.8744, -43.0096),
    "E2": (9.5000, -43.9980),
    "S1": (42.8200, 0.0000),
    "S2": (41.1944, -0.9884),
    "X1": (34.4757, -4.9295),
    "X2": (35.6645, -6.4121),
    "X3": (36.4500, -4.6000),
}
"""Centres (RA, Dec in degrees) of the DES supernova fields (Kessler et al. 2015, AJ 150, 172)."""

DEEP = ("C3", "X3")
"""The two that are observed with several exposures at a time."""


@dataclass(frozen=True)
class Pointing:
    """A tangential projection: field name, centre in degrees, size in px, arcsec per px."""

    field: str
    ra: float
    dec: float
    size: int
    pixel_scale: float

    def wcs(self) -> Any:
        """The projection as an `astropy.wcs.WCS` (north up, east left)."""
        from astropy.wcs import WCS

        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        # FITS counts pixels from 1.
        wcs.wcs.crpix = [(self.size + 1) / 2.0, (self.size + 1) / 2.0]
        wcs.wcs.cdelt = [-self.pixel_scale / 3600.0, self.pixel_scale / 3600.0]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        return wcs

    def sky(self, x: NDArray, y: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """RA and Dec in degrees of positions in px (pixel centres from 0)."""
        # The inverse of the gnomonic projection, written out: importing astropy takes longer
        # than a frame.
        scale = np.deg2rad(self.pixel_scale / 3600.0)
        middle = (self.size - 1) / 2.0
        xi, eta = -scale * (x - middle), scale * (y - middle)
        ra0, dec0 = np.deg2rad(self.ra), np.deg2rad(self.dec)
        depth = np.cos(dec0) - eta * np.sin(dec0)
        ra = ra0 + np.arctan2(xi, depth)
        dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, depth))
        return np.rad2deg(ra) % 360.0, np.rad2deg(dec)


def draw_pointing(rng: np.random.Generator, deep: bool, size: int, pixel_scale: float) -> Pointing:
    """Draw a place within 0.9 degrees of the centre of a DES supernova field.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    deep : bool
        Whether the frame belongs to a deep field.
    size : int
        Side of the frame, px.
    pixel_scale : float
        arcsec per px.

    Returns
    -------
    Pointing
    """
    names = [name for name in FIELDS if (name in DEEP) == deep]
    name = names[rng.integers(len(names))]
    ra, dec = FIELDS[name]
    east, north = rng.uniform(-0.9, 0.9, 2)
    ra = (ra + east / np.cos(np.deg2rad(dec))) % 360.0
    return Pointing(name, float(ra), float(dec + north), size, pixel_scale)
