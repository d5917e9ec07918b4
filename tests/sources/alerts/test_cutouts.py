"""Cutouts: what is decoded, where the candidate lands, what is refused."""

from __future__ import annotations

import gzip
import io
import time
import tracemalloc

import numpy as np
import pytest
from alert_makers import damage, fits_bytes, image
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rb.sources.alerts.cutouts import (
    MAX_BYTES,
    CutoutError,
    centre_index,
    decode_cutout,
    place,
    resample,
)


def card(key: str, value: object) -> bytes:
    return f"{key:<8}= {value!s:>20}".ljust(80).encode()


def raw_fits(*cards: bytes, data: bytes = b"") -> bytes:
    header = b"".join(cards) + b"END".ljust(80)
    return header.ljust(-(-len(header) // 2880) * 2880) + data


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_every_pixel_type_is_read(dtype: str, compress: bool) -> None:
    pixels = np.arange(12).reshape(3, 4).astype(dtype)
    found = decode_cutout(fits_bytes(pixels, compress))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.arange(12).reshape(3, 4))


def test_scaling_keywords_are_applied() -> None:
    hdu = fits.PrimaryHDU(np.array([[0, 100], [200, 300]], dtype="f4"))
    hdu.scale("int16", bscale=0.5, bzero=100)
    out = io.BytesIO()
    hdu.writeto(out)
    np.testing.assert_allclose(decode_cutout(out.getvalue()), [[0, 100], [200, 300]])


def test_unsigned_integers_keep_their_offset() -> None:
    pixels = np.array([[0, 40000], [65535, 1]], dtype="u2")
    np.testing.assert_array_equal(decode_cutout(fits_bytes(pixels)), pixels)


def test_image_in_an_extension_and_degenerate_axes() -> None:
    pixels = image(5.0, (7, 9))
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels[None])]).writeto(out)
    np.testing.assert_array_equal(decode_cutout(out.getvalue()), pixels)


def test_what_is_not_finite_in_float32_is_nan() -> None:
    pixels = np.array([[1.0, np.nan, np.inf], [-np.inf, 1e200, 3e38]])
    found = decode_cutout(fits_bytes(pixels))
    np.testing.assert_array_equal(np.isnan(found), [[0, 1, 1], [1, 1, 0]])


def test_several_gzip_members_are_one_file() -> None:
    plain = fits_bytes(image(), compress=False)
    joined = gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])
    np.testing.assert_array_equal(decode_cutout(joined), image())


@given(st.integers(1, 120), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_candidate_lands_in_the_middle_and_the_rest_is_nan(rows: int, columns: int) -> None:
    pixels = image(1.0, (rows, columns))
    stamp, padded = place(pixels, 51)
    assert stamp.shape == (51, 51)
    assert stamp[25, 25] == pixels[rows // 2, columns // 2]
    assert padded == np.isnan(stamp).sum()
    inside = [min(25, n // 2) + 1 + min(25, n - 1 - n // 2) for n in (rows, columns)]
    assert padded == 51 * 51 - inside[0] * inside[1]


@pytest.mark.parametrize(
    ("n", "first", "last"),
    [(63, 6, 56), (61, 5, 55), (62, 6, 56), (81, 15, 65), (52, 1, 51), (51, 0, 50)],
)
def test_columns_that_are_kept(n: int, first: int, last: int) -> None:
    pixels = np.tile(np.arange(n, dtype="f4"), (n, 1))
    stamp, padded = place(pixels, 51)
    assert (stamp[0, 0], stamp[0, -1], padded) == (first, last, 0)


@pytest.mark.parametrize(("n", "left", "right"), [(49, 1, 1), (50, 0, 1), (20, 15, 16)])
def test_smaller_cutouts_are_padded_on_both_sides(n: int, left: int, right: int) -> None:
    gaps = np.isnan(place(np.ones((51, n), "f4"), 51)[0][0])
    assert gaps[:left].all() and gaps[51 - right :].all() and gaps.sum() == left + right


@given(st.floats(1.0, 3080.0), st.sampled_from([61, 62, 63]))
@settings(max_examples=200, deadline=None)
def test_candidate_in_a_cutout_shortened_by_the_chip(position: float, full: int) -> None:
    chip = np.arange(1, 3081)
    nearest = int(np.floor(position + 0.5))
    start = nearest - full // 2
    cut = chip[max(start, 1) - 1 : start + full - 1]
    middle = centre_index(len(cut), full, position)
    assert cut[middle] == nearest


def test_unknown_position_or_size_means_the_middle() -> None:
    assert centre_index(40, None, 5.0) == 20
    assert centre_index(40, 63, None) == 20
    assert centre_index(40, 63, float("nan")) == 20
    assert centre_index(81, 63, 5.0) == 40
    assert centre_index(20, 63, 12.0) == 10, "position and size contradict each other"


def gaussian(n: int, sigma: float) -> np.ndarray:
    x = np.arange(n) - n // 2
    return np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2)).astype("f4")


@pytest.mark.parametrize("n", [51, 62, 63, 40])
def test_resampling_to_the_same_scale_is_cutting(n: int) -> None:
    pixels = image(1.0, (n, n))
    stamp, padded = resample(pixels, 1.0, 51)
    expected, expected_padded = place(pixels, 51)
    np.testing.assert_allclose(stamp, expected, rtol=1e-5)
    assert padded == expected_padded


@pytest.mark.parametrize("ratio", [0.26, 0.5, 0.9, 1.2])
def test_resampling_conserves_flux_and_place(ratio: float) -> None:
    pixels = 1000 * gaussian(63, 1.2)
    stamp, padded = resample(pixels, ratio, 51)
    assert padded == 0
    assert stamp.sum() == pytest.approx(pixels.sum(), rel=2e-4)
    y, x = np.mgrid[:51, :51]
    assert (stamp * x).sum() / stamp.sum() == pytest.approx(25, abs=1e-3)
    assert (stamp * y).sum() / stamp.sum() == pytest.approx(25, abs=1e-3)
    # A Gaussian on smaller pixels is the same Gaussian, wider by 1 / ratio.
    width = np.sqrt((stamp * (x - 25.0) ** 2).sum() / stamp.sum()) * ratio
    assert width == pytest.approx(1.2, rel=0.05)


def test_flux_between_old_edges_is_exact() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.normal(0, 10, (153, 153)).astype("f4")
    stamp, padded = resample(pixels, 3.0, 51)
    sums = pixels.reshape(51, 3, 51, 3).sum(axis=(1, 3))
    np.testing.assert_allclose(stamp, sums, atol=1e-3)
    assert padded == 0


@given(st.floats(0.1, 5.0), st.integers(20, 90))
@settings(max_examples=40, deadline=None)
def test_flat_sky_stays_flat(ratio: float, n: int) -> None:
    stamp, padded = resample(np.full((n, n), 7.0, "f4"), ratio, 51)
    assert np.isnan(stamp).sum() == padded
    np.testing.assert_allclose(stamp[np.isfinite(stamp)], 7.0 * ratio**2, rtol=1e-4)


def test_missing_pixels_do_not_leak() -> None:
    pixels = np.full((63, 63), 10.0, "f4")
    pixels[30, 31] = np.nan
    finer, _ = resample(pixels, 0.5, 51)
    np.testing.assert_allclose(finer[np.isfinite(finer)], 2.5, rtol=1e-5)
    assert 4 <= np.isnan(finer).sum() <= 9
    coarser, padded = resample(pixels, 1.2, 51)
    assert np.isnan(coarser).sum() == padded + 2, "row 30 is shared by two new rows"
    empty, _ = resample(np.full((63, 63), np.nan, "f4"), 0.5, 51)
    assert np.isnan(empty).all()


def test_gzip_bomb_and_promised_terabytes_cost_nothing() -> None:
    bomb = gzip.compress(gzip.compress(bytes(2**28)))
    promises = [
        gzip.compress(raw_fits(card("SIMPLE", "T"), data=bytes(2**28)), 1),
        bomb,
        raw_fits(
            card("SIMPLE", "T"),
            card("BITPIX", -64),
            card("NAXIS", 2),
            card("NAXIS1", 10**6),
            card("NAXIS2", 10**6),
        ),
        raw_fits(card("SIMPLE", "T"), card("BITPIX", -32), card("NAXIS", 10**12)),
        raw_fits(
            card("SIMPLE", "T"),
            card("BITPIX", 8),
            card("NAXIS", 0),
            card("XTENSION", "'BINTABLE'"),
            card("TFIELDS", 10**12),
        ),
    ]
    tracemalloc.start()
    begin = time.process_time()
    for data in promises:
        with pytest.raises(CutoutError):
            decode_cutout(data)
    assert time.process_time() - begin < 5
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        ("text", "not bytes"),
        (b"GIF89a" + bytes(3000), "not FITS"),
        (b"\x1f\x8b\x08\x00", "gzip damaged"),
        (fits_bytes(image())[:-200], "gzip damaged"),
        (fits_bytes(image(), compress=False)[:9000], "FITS damaged|truncated"),
        (b"SIMPLE  =                    T".ljust(2880), "header damaged"),
        (raw_fits(card("SIMPLE", "T"), card("BITPIX", 8), card("NAXIS", 0)), "no 2-D image"),
    ],
)
def test_refusals_say_why(data: object, reason: str) -> None:
    with pytest.raises(CutoutError, match=reason):
        decode_cutout(data)


def test_tile_compressed_image_is_refused_by_name() -> None:
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image())]).writeto(out)
    with pytest.raises(CutoutError, match="tile-compressed"):
        decode_cutout(out.getvalue())


@given(hnp.arrays("f4", st.tuples(st.integers(1, 70), st.integers(1, 70))))
@settings(max_examples=40, deadline=None)
def test_round_trip(pixels: np.ndarray) -> None:
    found = decode_cutout(fits_bytes(pixels))
    np.testing.assert_array_equal(found, np.where(np.isfinite(pixels), pixels, np.nan))


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=300, deadline=2000)
def test_damaged_cutouts_are_read_or_refused(seed: int, compress: bool) -> None:
    data = damage(fits_bytes(image(), compress), np.random.default_rng(seed))
    try:
        found = decode_cutout(data)
    except CutoutError:
        return
    assert found.ndim == 2 and found.dtype == np.float32
    assert not np.isinf(found).any()


@given(st.binary(max_size=4000))
@settings(max_examples=200, deadline=2000)
def test_any_bytes_after_the_first_card_are_refused(data: bytes) -> None:
    with pytest.raises(CutoutError):
        decode_cutout(card("SIMPLE", "T") + data)
