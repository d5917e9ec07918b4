"""Cutouts of alert packets: FITS bytes in, stamps of one size out.

What a cutout may be is limited below; `rb.io.fits` keeps to it before anything is allocated.

Where the candidate is
    In pixel ``n // 2`` (counted from 0) of an axis with ``n`` pixels: the middle of an odd
    axis, and the pixel after the middle of an even one, because cutouts are taken as
    ``centre - n // 2`` to ``centre - n // 2 + n - 1``. It lands there in the stamp, too.
Edges
    Stamp pixels outside the cutout are NaN. Pixels that are infinite or do not fit into
    float32 are NaN, too.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from rb.io.fits import BadStamp, StampParser, gunzip

MAX_BYTES = 8 * 2**20
"""Most bytes of one cutout, uncompressed: 1024 x 1024 px of 8 bytes."""

MAX_SIDE = 1024
"""Most pixels along one side of a cutout."""

_GZIP = b"\x1f\x8b"


class CutoutError(ValueError):
    """A cutout that cannot be read; ``reason`` is the same for all of its kind."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


_parser = StampParser(None, MAX_SIDE)


def decode_cutout(data: object) -> np.ndarray:
    """Pixels of a FITS image in memory, gzipped or plain.

    Parameters
    ----------
    data : bytes, or list
        A whole FITS file; the first 2-D image in it counts (degenerate further axes and
        extensions are understood, scaling keywords applied). Or the numbers themselves.

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
        return _table_cell(data)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CutoutError("cutout is not bytes", type(data).__name__)
    raw = bytes(data)
    try:
        raw = gunzip(raw, MAX_BYTES) if raw[:2] == _GZIP else raw
        image = _parser.read(raw)
    except BadStamp as error:
        raise CutoutError(f"cutout {error.reason}", error.detail) from error
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = np.array(image, dtype=np.float32)
    pixels[~np.isfinite(pixels)] = np.nan
    return pixels


def _table_cell(data: list[Any]) -> np.ndarray:
    """Pixels of a table's cell: rows of numbers, or all numbers of a square one after another."""
    try:
        pixels = np.array(data, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        raise CutoutError("cutout is no image", "lists of other things than numbers") from None
    if pixels.ndim == 1:
        side = math.isqrt(len(pixels))
        pixels = pixels.reshape(side, side) if side * side == len(pixels) else pixels
    if pixels.ndim != 2 or not 1 <= min(pixels.shape) <= max(pixels.shape) <= MAX_SIDE:
        raise CutoutError("cutout is no image", f"numbers of shape {pixels.shape}")
    pixels[~np.isfinite(pixels)] = np.nan
    return pixels


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
    centre: tuple[int, int] | None = None,
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
        As in `place`; the centre of the candidate's pixel stays in the centre of a pixel.

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
    stamp = rows @ values @ columns.T
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
    n: int, middle: int, ratio: float, size: int
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
