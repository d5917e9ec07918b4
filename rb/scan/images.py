"""Pairs of images from FITS files, brought to one grid of pixels."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rb.errors import UserError
from rb.stamps.scaling import LARGEST
from rb.survey.pipeline.measure import PSF_SIZE
from rb.survey.pipeline.pair import MeasuredPair, measure_pair

_SAME_PX = 0.3  # corners that lie closer are on one grid
_SAME_SCALE = 0.05
_SATURATION = ("SATURATE", "SATURATA", "SATUR_LEVEL")
_ZERO_POINT = ("MAGZERO", "MAGZPT", "MAGZP", "ZEROPT", "ZP", "PHOTZP")
_GAIN = ("GAIN", "EGAIN", "GAINA")
_EXTENSION = re.compile(r"(.+)\[(\w+)\]")


@dataclass(frozen=True)
class Image:
    """One image of a FITS file.

    Attributes
    ----------
    name : str
        How messages call it.
    pixels : ndarray of shape (height, width)
        float32, NaN where unknown or beyond ±1e18.
    header : mapping
        FITS header.
    wcs : astropy.wcs.WCS, optional
        Celestial coordinates, where the header has them.
    """

    name: str
    pixels: NDArray[np.float32]
    header: Any
    wcs: Any

    def number(self, keys: tuple[str, ...]) -> float | None:
        """The first of these cards that holds a number."""
        for key in keys:
            value = self.header.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value) if np.isfinite(value) else None
        return None

    @property
    def scale(self) -> float | None:
        """Arcsec per px."""
        if self.wcs is None:
            return None
        from astropy.wcs.utils import proj_plane_pixel_scales

        return 3600.0 * float(np.mean(proj_plane_pixel_scales(self.wcs)))


@dataclass(frozen=True)
class ScanPair:
    """A pair, measured, with what its search image says of itself.

    Attributes
    ----------
    pair : MeasuredPair
        Both images without sky, on the flux scale of the search image.
    wcs : astropy.wcs.WCS, optional
        Of the search image.
    zero_point : float, optional
        Magnitude of a flux of 1.
    gain : float, optional
        Electrons per unit of flux.
    unit : str
        Of the pixels.
    scale : float, optional
        arcsec per px.
    """

    pair: MeasuredPair
    wcs: Any
    zero_point: float | None
    gain: float | None
    unit: str
    scale: float | None


def split_place(place: str) -> tuple[str, str | None]:
    """File and extension of ``FILE`` or ``FILE[EXTENSION]``."""
    match = None if os.path.exists(place) else _EXTENSION.fullmatch(place)
    return (match[1], match[2]) if match else (place, None)


def read_image(place: str, least: int = 64) -> Image:
    """Read ``FILE`` or ``FILE[EXTENSION]``; without one, the first image in the file.

    Parameters
    ----------
    place : str
        The image.
    least : int
        px that it has along a side.

    Raises
    ------
    UserError
        If it is no whole FITS file with such an image.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS

    path, extension = split_place(place)
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            # A file that was cut short is told by a warning alone.
            warnings.filterwarnings("error", ".*truncated.*", AstropyWarning)
            warnings.filterwarnings("ignore", category=AstropyWarning)
            warnings.filterwarnings("ignore", category=RuntimeWarning)  # what overflows is infinite
            with fits.open(path, memmap=False) as units:
                unit = _image_unit(units, extension, path)
                pixels = np.array(unit.data, dtype=np.float32)
                header = unit.header.copy()
            wcs = WCS(header, naxis=2)
    except UserError:
        raise
    except Exception as error:  # astropy raises whatever it comes across
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: not a whole FITS image ({reason[:120]})") from error
    # Of what is no measurement, squares overflow, and sep ends the process.
    pixels[~(np.abs(pixels) <= LARGEST)] = np.nan
    while pixels.ndim > 2 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if min(pixels.shape) < least:
        raise UserError(
            f"{place}: {pixels.shape[1]}x{pixels.shape[0]} px; give at least {least}x{least}"
        )
    return Image(place, pixels, header, wcs if wcs.has_celestial else None)


def read_psf(place: str) -> NDArray[np.float64]:
    """The PSF of an image, (PSF_SIZE, PSF_SIZE), of sum 1, from a FITS image of it.

    It is in the image's pixels, with its peak in the middle; what is smaller is taken as 0 round
    it, what is larger is cut.

    Raises
    ------
    UserError
        If it cannot be read, or is no such image.
    """
    pixels = read_image(place, 5).pixels.astype(np.float64)
    height, width = pixels.shape
    if height % 2 == 0 or width % 2 == 0 or not np.isfinite(pixels).all():
        raise UserError(f"{place}: give a PSF of odd height and width, without unknown pixels")
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    if max(abs(row - height // 2), abs(column - width // 2)) > 1:
        raise UserError(f"{place}: the peak of a PSF lies in the middle; here it is elsewhere")
    padded = np.pad(pixels, PSF_SIZE // 2)
    top, left = height // 2, width // 2
    cut = padded[top : top + PSF_SIZE, left : left + PSF_SIZE]
    return np.asarray(cut / cut.sum())


def _image_unit(units: Any, extension: str | None, path: str) -> Any:
    def is_image(unit: Any) -> bool:
        shape = getattr(unit, "shape", ())
        return len(shape) >= 2 and all(n == 1 for n in shape[:-2]) and unit.is_image

    if extension is not None:
        key = int(extension) if extension.isdigit() else extension
        try:
            unit = units[key]
        except (KeyError, IndexError):
            names = ", ".join(u.name or str(i) for i, u in enumerate(units))
            raise UserError(f"{path}: no extension {extension}; there are {names}") from None
        if not is_image(unit):
            raise UserError(f"{path}[{extension}]: not a two-dimensional image")
        return unit
    for unit in units:
        if is_image(unit):
            return unit
    raise UserError(f"{path}: holds no two-dimensional image")


def read_pair(
    search: str,
    template: str,
    saturation: float | None = None,
    zero_point: float | None = None,
    gain: float | None = None,
    psf: tuple[str, str] | None = None,
) -> ScanPair:
    """Read a pair and measure it; the template is resampled where it lies on another grid.

    Parameters
    ----------
    search, template : str
        See `read_image`.
    saturation : float, optional
        Level from which pixels of either are left out; by default as the headers say.
    zero_point, gain : float, optional
        Of the search image, by default as its header says.
    psf : (str, str), optional
        Images of the PSFs of search and template, see `read_psf`; measured without them.

    Raises
    ------
    UserError
        If they cannot be read or compared; the message says which and why.
    """
    night, deep = read_image(search), read_image(template)
    if np.array_equal(night.pixels, deep.pixels, equal_nan=True):
        raise UserError(f"{search}, {template}: hold the same pixels; give two images of one sky")
    masked = _saturated(night, saturation)
    pixels, deep_masked = deep.pixels, _saturated(deep, saturation)
    if not _on_one_grid(night, deep):
        pixels, deep_masked = _aligned(night, deep, deep_masked)
    psfs = None if psf is None else np.stack([read_psf(place) for place in psf])
    where = f"{search}, {template}"
    pair = measure_pair(night.pixels, pixels, masked | deep_masked, where=where, psf=psfs)
    if not np.isfinite(pair.psf).all():
        raise UserError(
            f"{where}: no bright, single star tells the PSFs; give a larger image, or both --psf"
        )
    return ScanPair(
        pair,
        night.wcs,
        night.number(_ZERO_POINT) if zero_point is None else zero_point,
        night.number(_GAIN) if gain is None else gain,
        str(night.header.get("BUNIT", "")).strip(),
        night.scale,
    )


def _saturated(image: Image, level: float | None) -> NDArray[np.bool_]:
    level = image.number(_SATURATION) if level is None else level
    unknown = ~np.isfinite(image.pixels)
    if level is None:
        return unknown
    from scipy.ndimage import binary_dilation

    return unknown | binary_dilation(image.pixels >= level, iterations=3)


def _on_one_grid(night: Image, deep: Image) -> bool:
    """Whether pixels of the same number show the same sky."""
    same_shape = night.pixels.shape == deep.pixels.shape
    if night.wcs is None or deep.wcs is None:
        if same_shape:
            return True
        without = night.name if night.wcs is None else deep.name
        raise UserError(
            f"{without}: has no celestial WCS, and the images differ in size, so that they cannot "
            "be aligned; give registered images of one size, or a WCS"
        )
    scales = [image.scale or 0.0 for image in (night, deep)]
    if abs(scales[0] / scales[1] - 1.0) > _SAME_SCALE:
        raise UserError(
            f"{night.name}, {deep.name}: pixels of {scales[0]:.3g} and {scales[1]:.3g} arcsec; "
            "give images of one pixel scale"
        )
    height, width = night.pixels.shape
    x, y = (a.ravel() for a in np.meshgrid([0, width - 1], [0, height - 1]))
    column, row = deep.wcs.world_to_pixel(night.wcs.pixel_to_world(x, y))
    off = np.hypot(column - x, row - y)
    return same_shape and bool(np.nan_to_num(off, nan=np.inf).max() < _SAME_PX)


def _aligned(
    night: Image, deep: Image, masked: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The template on the grid of the search image, and the pixels that it does not know."""
    try:
        from reproject import reproject_interp
    except ImportError:
        raise UserError(
            f"{deep.name}: lies on another grid than {night.name}; aligning them needs "
            "reproject: pip install 'rb[scan]'"
        ) from None
    height, width = night.pixels.shape
    filled = np.where(np.isfinite(deep.pixels), deep.pixels, 0.0)
    pixels, there = reproject_interp(
        (filled, deep.wcs), night.wcs, shape_out=(height, width), order="bicubic"
    )
    blocked, _ = reproject_interp(
        (masked.astype(np.float32), deep.wcs), night.wcs, shape_out=(height, width)
    )
    if there.mean() < 0.05:
        raise UserError(f"{night.name}, {deep.name}: these images do not overlap")
    unknown = (there < 0.5) | ~np.isfinite(pixels) | ~(blocked < 0.01)
    return np.where(unknown, np.nan, pixels).astype(np.float32), unknown
