"""Cutouts of alert packets: FITS bytes in, stamps of one size out.

Decoding trusts nothing: the size that a gzip stream may reach and the size that a FITS header
may promise are limited before anything is allocated.

Where the candidate is
    In pixel ``n // 2`` (counted from 0) of an axis with ``n`` pixels: the middle of an odd
    axis, and the pixel after the middle of an even one, because cutouts are taken as
    ``centre - n // 2`` to ``centre - n // 2 + n - 1``. It lands there in the stamp, too.
Edges
    Stamp pixels outside the cutout are NaN. Pixels that are infinite or do not fit into
    float32 are NaN, too.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from functools import lru_cache

import numpy as np

MAX_BYTES = 8 * 2**20
"""Most bytes of one cutout, uncompressed: 1024 x 1024 px of 8 bytes."""

MAX_SIDE = 1024
"""Most pixels along one side of a cutout."""

_BLOCK = 2880
_CARD = 80
_MAX_HEADER_BLOCKS = 100
_END = b"END     "
_GZIP = b"\x1f\x8b"
# NAXIS and TFIELDS make astropy loop over that many keywords before it looks at anything else.
_COUNTS = re.compile(rb"(?:NAXIS|TFIELDS) *= *([0-9]+)")
_MOST_COUNT = 999


class CutoutError(ValueError):
    """A cutout that cannot be read; ``reason`` is the same for all of its kind."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def decode_cutout(data: object) -> np.ndarray:
    """Pixels of a FITS image in memory, gzipped or plain.

    Parameters
    ----------
    data : bytes
        A whole FITS file; the first 2-D image in it counts (degenerate further axes and
        extensions are understood, scaling keywords applied).

    Returns
    -------
    ndarray
        float32, (rows, columns), raw values; what is not finite is NaN.

    Raises
    ------
    CutoutError
        If the bytes are no such image, are truncated, or promise more than `MAX_BYTES`.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CutoutError("cutout is not bytes", type(data).__name__)
    raw = bytes(data)
    if raw[:2] == _GZIP:
        raw = _gunzip(raw)
    if len(raw) > MAX_BYTES:
        raise CutoutError("cutout too large", f"more than {MAX_BYTES >> 20} MiB")
    _check_header(raw)
    image = _first_image(raw)
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = np.array(image, dtype=np.float32)
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


def _gunzip(data: bytes) -> bytes:
    out = bytearray()
    rest = data
    while rest[:2] == _GZIP:
        inflate = zlib.decompressobj(wbits=31)
        try:
            out += inflate.decompress(rest, MAX_BYTES + 1 - len(out))
        except zlib.error as error:
            raise CutoutError("cutout gzip damaged", str(error)) from error
        if len(out) > MAX_BYTES:
            raise CutoutError("cutout too large", f"inflates beyond {MAX_BYTES >> 20} MiB")
        if not inflate.eof:
            raise CutoutError("cutout gzip damaged", "the stream ends early")
        if len(inflate.unused_data) >= len(rest):
            break
        rest = inflate.unused_data
    return bytes(out)


def _check_header(raw: bytes) -> None:
    """Refuse what is no FITS file, before astropy spends time or memory on it."""
    if not raw:
        raise CutoutError("cutout empty")
    if raw[:6] != b"SIMPLE":
        raise CutoutError("cutout is not FITS", f"starts with {raw[:8]!r}")
    header = raw[: _MAX_HEADER_BLOCKS * _BLOCK]
    end = header.find(_END)
    while end > 0 and end % _CARD:
        end = header.find(_END, end + 1)
    if end < 0:
        raise CutoutError("cutout header damaged", "no END card")
    if any(len(m[1]) > 3 or int(m[1]) > _MOST_COUNT for m in _COUNTS.finditer(raw)):
        raise CutoutError("cutout header damaged", "impossible number of axes or fields")


def _first_image(raw: bytes) -> np.ndarray:
    from astropy.io import fits

    compressed = False
    with warnings.catch_warnings():
        # Real packets carry cards that break the standard in harmless ways, one a packet.
        warnings.simplefilter("ignore")
        try:
            with fits.open(
                io.BytesIO(raw), memmap=False, lazy_load_hdus=True, disable_image_compression=True
            ) as hdus:
                for hdu in hdus:
                    if not isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU):
                        compressed |= "ZIMAGE" in hdu.header
                        continue
                    shape = tuple(n for n in hdu.shape if n != 1) if len(hdu.shape) > 2 else None
                    shape = hdu.shape if shape is None else shape
                    if len(shape) != 2:
                        continue
                    _check_size(shape, int(hdu.header["BITPIX"]), len(raw))
                    return np.asarray(hdu.data).reshape(shape)
        except CutoutError:
            raise
        except Exception as error:
            # astropy answers damaged headers with nearly every kind of exception.
            raise CutoutError("cutout FITS damaged", f"{type(error).__name__}: {error}") from error
    if compressed:
        raise CutoutError("cutout is a tile-compressed FITS image")
    raise CutoutError("cutout has no 2-D image")


def _check_size(shape: tuple[int, ...], bitpix: int, available: int) -> None:
    if min(shape) < 1 or max(shape) > MAX_SIDE:
        raise CutoutError("cutout size impossible", f"{shape[1]}x{shape[0]} px")
    if shape[0] * shape[1] * abs(bitpix) // 8 > available:
        raise CutoutError(
            "cutout truncated", f"{shape[1]}x{shape[0]} px promised in {available} bytes"
        )
