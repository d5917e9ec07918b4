"""Cutouts of alert packets: FITS bytes in, stamps of one size out.

What a cutout may be is limited below; `rb.io.fits` keeps to it before anything is allocated.

Where the candidate is
    In pixel ``n // 2`` (counted from 0) of an axis with ``n`` pixels: the middle of an odd
    axis, and the pixel after the middle of an even one, because cutouts are taken as
    ``centre - n // 2`` to ``centre - n // 2 + n - 1``. It lands there in the stamp, too.
    Where the header says it (CRPIX, for Rubin), there: it lands within half a pixel of the
    middle of the stamp, ``(size - 1) / 2``, so that a cutout of that size stays as it is.
Edges
    Stamp pixels outside the cutout are NaN. Pixels that are infinite or do not fit into
    float32 are NaN, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rb.io.fits import BadStamp, StampParser, gunzip

MAX_BYTES = 8 * 2**20
"""Most bytes of one cutout, uncompressed: 1024 x 1024 px of 8 bytes."""

MAX_SIDE = 1024
"""Most pixels along one side of a cutout."""

NANOJANSKY = 31.4
"""AB magnitude of 1 nJy."""

_GZIP = b"\x1f\x8b"
_BYTES = np.arange(-128, 256)  # signed or unsigned
_VARIANCE, _PSF = "UNCERT", "PSFIMAGE"


class CutoutError(ValueError):
    """A cutout that cannot be read; ``reason`` is the same for all of its kind."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


_parser = StampParser(None, MAX_SIDE)


@dataclass(frozen=True)
class Cutout:
    """An image of a packet with what its file says beside it.

    Parameters
    ----------
    pixels : ndarray
        float32, (rows, columns).
    variance : ndarray, optional
        Of the same shape, in the square of their unit.
    psf : ndarray, optional
        Image of the PSF, (rows, columns).
    place : (float, float), optional
        Row and column of the candidate, from 0, by CRPIX.
    rotation : float
        Position angle of the rows' direction +y [deg, north through east]; NaN if unknown.
    mirrored : bool or None
        Whether east is to the right of north.
    zero_point : float or None
        AB magnitude of a pixel of value 1, where the unit says it.
    """

    pixels: np.ndarray
    variance: np.ndarray | None = None
    psf: np.ndarray | None = None
    place: tuple[float, float] | None = None
    rotation: float = math.nan
    mirrored: bool | None = None
    zero_point: float | None = None


def open_cutout(data: object) -> Cutout:
    """An image with its extensions and its place, as Rubin sends it.

    The first image that is called neither `UNCERT` nor `PSFIMAGE` is the science. Raises
    `CutoutError` like `decode_cutout`.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        return Cutout(decode_cutout(data))
    raw = _unpacked(bytes(data))
    try:
        hdus = _parser.images(raw)
    except BadStamp as error:
        raise CutoutError(f"cutout {error.reason}", error.detail) from error
    beside = {h.name: _finite(h.pixels) for h in hdus if h.name in (_VARIANCE, _PSF)}
    image = next((h for h in hdus if h.name not in beside), hdus[0])
    variance = beside.get(_VARIANCE)
    if variance is not None and variance.shape != image.pixels.shape:
        raise CutoutError("cutout has a variance of another size", f"{variance.shape}")
    return Cutout(
        _finite(image.pixels),
        variance,
        beside.get(_PSF),
        _place(image.header, image.pixels.shape),
        *_orientation(image.header),
        NANOJANSKY if str(image.header.get("BUNIT", "")).strip() == "nJy" else None,
    )


def _place(header: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float] | None:
    column, row = (_number(header, f"CRPIX{i}") - 1 for i in (1, 2))
    inside = -0.5 <= row < shape[0] - 0.5 and -0.5 <= column < shape[1] - 0.5
    return (row, column) if inside else None


def _orientation(header: Mapping[str, Any]) -> tuple[float, bool | None]:
    """Rotation and handedness by the matrix from pixels to (east, north), PCi_j or CDi_j."""
    name = "PC" if "PC1_1" in header else "CD"
    east_x, east_y, north_x, north_y = (
        _number(header, f"{name}{i}_{j}") * (_number(header, f"CDELT{i}", 1) if name == "PC" else 1)
        for i in (1, 2)
        for j in (1, 2)
    )
    determinant = east_x * north_y - east_y * north_x
    if not math.isfinite(determinant) or not determinant:
        return math.nan, None
    return math.degrees(math.atan2(east_y, north_y)) % 360, determinant > 0


def _number(header: Mapping[str, Any], keyword: str, default: float = math.nan) -> float:
    value = header.get(keyword, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else math.nan


def decode_cutout(data: object) -> np.ndarray:
    """Pixels of a FITS image in memory, gzipped or plain.

    Parameters
    ----------
    data : bytes or list
        A whole FITS file; the first 2-D image in it counts (degenerate further axes and
        extensions are understood, scaling keywords applied). A list of its bytes, or of pixels.

    Returns
    -------
    ndarray
        float32, (rows, columns), raw values; what is not finite is NaN.

    Raises
    ------
    CutoutError
        If the bytes are no such image, are truncated, or promise more than `MAX_BYTES`.
    """
    if isinstance(data, list):
        data = _of_list(data)
    if isinstance(data, np.ndarray):
        return _finite(data)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CutoutError("cutout is not bytes", type(data).__name__)
    raw = _unpacked(bytes(data))
    try:
        return _finite(_parser.read(raw))
    except BadStamp as error:
        raise CutoutError(f"cutout {error.reason}", error.detail) from error


def _unpacked(raw: bytes) -> bytes:
    try:
        return gunzip(raw, MAX_BYTES) if raw[:2] == _GZIP else raw
    except BadStamp as error:
        raise CutoutError(f"cutout {error.reason}", error.detail) from error


def _finite(image: np.ndarray) -> np.ndarray:
    """A copy in float32; what is not finite there is NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = np.array(image, dtype=np.float32)
    pixels[~np.isfinite(pixels)] = np.nan
    return pixels


def _of_list(values: list[Any]) -> np.ndarray | bytes:
    """The bytes of a file, or the pixels of an image, that a packet holds as a list."""
    try:
        array = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise CutoutError("cutout is a list of no numbers", str(error)[:80]) from error
    if array.ndim == 1 and np.isin(array, _BYTES).all():
        raw = (array.astype(np.int64) % 256).astype(np.uint8).tobytes()
        if raw.startswith((b"SIMPLE", _GZIP)):
            return raw
    side = math.isqrt(array.size)
    if array.ndim == 1 and side * side == array.size:  # without its shape it can only be a square
        array = array.reshape(side, side)
    if array.ndim != 2 or not 1 <= min(array.shape) <= max(array.shape) <= MAX_SIDE:
        raise CutoutError("cutout is a list that makes no image", f"shape {array.shape}")
    return array


def nearest(place: float, size: int) -> int:
    """Pixel that comes into ``size // 2`` so that `place` is next to the middle of the stamp."""
    return math.floor(place - (size - 1) / 2 + 0.5) + size // 2


def centred_psf(psf: np.ndarray, size: int, ratio: float | None = None) -> np.ndarray:
    """A PSF of odd `size` about its middle with sum 1, on pixels as `resample` has them.

    It is cut, or padded with zeros; all NaN if its sum is not positive.
    """
    middle = place(psf, size)[0] if ratio is None else resample(psf, ratio, size)[0]
    middle = np.nan_to_num(middle)
    total = float(middle.sum(dtype=np.float64))
    return middle / total if total > 0 else np.full_like(middle, np.nan)


def centre_index(n: int, full: int | None = None, position: float | None = None) -> int:
    """Pixel (from 0) that holds the candidate on an axis of `n` pixels.

    ``n // 2``, unless the cutout was shortened at the edge of the chip: then the candidate is
    not in its middle. Where the survey's regular size `full` and the candidate's `position`
    on the chip are known, the missing pixels are on the near side of the chip's edge.

    Parameters
    ----------
    n : int
        Pixels along the axis.
    full : int, optional
        Pixels that a cutout of this survey has away from edges.
    position : float, optional
        The candidate's position on the chip along this axis [px, first pixel = 1].

    Returns
    -------
    int
        May lie outside the cutout when the survey's position is that close to the edge.
    """
    if full is None or position is None or not np.isfinite(position) or n >= full:
        return n // 2
    half = full // 2
    if position > half + 0.5:
        return half  # shortened at the high edge: the missing pixels follow the candidate
    low = n - (full - half)  # shortened at the low edge: they precede it
    return low if abs(low + 1 - position) <= 1.5 else n // 2


def place(
    image: np.ndarray, size: int, centre: tuple[int, int] | None = None
) -> tuple[np.ndarray, int]:
    """Cut or pad `image` to `size` x `size` pixels around the candidate.

    Parameters
    ----------
    image : ndarray
        (rows, columns).
    size : int
        Pixels of the stamp; the candidate lands in pixel ``size // 2`` of both axes.
    centre : (int, int), optional
        Row and column of the candidate, by default ``(rows // 2, columns // 2)``.

    Returns
    -------
    stamp : ndarray
        float32, (size, size); pixels outside the cutout are NaN.
    padded : int
        Number of those pixels.
    """
    centre = centre or (image.shape[0] // 2, image.shape[1] // 2)
    stamp = np.full((size, size), np.nan, dtype=np.float32)
    take: list[slice] = []
    put: list[slice] = []
    for n, middle in zip(image.shape, centre, strict=True):
        low = middle - size // 2
        start, stop = max(low, 0), min(low + size, n)
        if start >= stop:
            return stamp, size * size
        take.append(slice(start, stop))
        put.append(slice(start - low, stop - low))
    stamp[put[0], put[1]] = image[take[0], take[1]]
    inside = (take[0].stop - take[0].start) * (take[1].stop - take[1].start)
    return stamp, size * size - inside


def resample(
    image: np.ndarray,
    ratio: float,
    size: int,
    centre: tuple[float, float] | None = None,
    variance: bool = False,
) -> tuple[np.ndarray, int]:
    """Stamp of `image` on pixels `ratio` times as large, with flux conserved.

    Along each axis the running sum of the pixels is interpolated with a cubic spline and
    differenced at the new pixel edges. The flux between any two edges of the old grid is
    therefore kept exactly, coarser pixels average and finer ones are smooth; as the sky is
    not rotated or distorted, the two axes separate and no WCS or reprojection is needed.

    A new pixel that overlaps an old NaN pixel is NaN, so missing data never leak into
    pixels that look measured; the spline runs over the gap at the level of the median.

    Parameters
    ----------
    image : ndarray
        (rows, columns), values in counts per pixel.
    ratio : float
        New pixel scale over old pixel scale.
    size, centre
        As in `place`; the centre of the candidate's pixel stays in the centre of a pixel. A
        place between pixels comes to that centre.
    variance : bool
        `image` holds variances: weights count squared, as for pixels that are independent.

    Returns
    -------
    stamp : ndarray
        float32, (size, size), counts per new pixel.
    padded : int
        Number of stamp pixels that reach outside the cutout (NaN).
    """
    if not (np.isfinite(ratio) and ratio > 0):
        raise ValueError(f"ratio of pixel scales is {ratio}, it has to be positive")
    centre = centre or (image.shape[0] // 2, image.shape[1] // 2)
    rows, rows_seen, rows_in = _weights(image.shape[0], centre[0], float(ratio), size)
    columns, columns_seen, columns_in = _weights(image.shape[1], centre[1], float(ratio), size)
    values = image.astype(np.float64)
    missing = ~np.isfinite(values)
    if missing.any():
        values[missing] = 0.0 if missing.all() else float(np.median(values[~missing]))
    stamp = rows**2 @ values @ (columns**2).T if variance else rows @ values @ columns.T
    if missing.any():
        touched = rows_seen @ missing.astype(np.float64) @ columns_seen.T
        stamp[touched > 1e-9] = np.nan
    inside = rows_in[:, None] & columns_in[None, :]
    stamp[~inside] = np.nan
    with np.errstate(over="ignore"):
        stamp = stamp.astype(np.float32)
    stamp[~np.isfinite(stamp)] = np.nan
    return stamp, int(np.sum(~inside))


@lru_cache(maxsize=64)
def _weights(
    n: int, middle: float, ratio: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How `n` old pixels make `size` new ones: spline weights, overlaps, which are inside."""
    from scipy.interpolate import CubicSpline, make_interp_spline

    edges = np.arange(n + 1, dtype=np.float64)
    new = middle + 0.5 + (np.arange(size + 1) - size // 2 - 0.5) * ratio
    inside = (new[:-1] >= -1e-9) & (new[1:] <= n + 1e-9)
    clipped = np.clip(new, 0, n)
    running = np.vstack([np.zeros(n), np.tril(np.ones((n, n)))])
    overlap = np.diff(make_interp_spline(edges, running, k=1)(clipped), axis=0)
    if n < 3:  # too short for a cubic: pixels are taken as flat
        return overlap, overlap, inside
    return np.diff(CubicSpline(edges, running)(clipped), axis=0), overlap, inside
