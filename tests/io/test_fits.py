"""The FITS parser against astropy, on whole and on damaged files."""

from __future__ import annotations

import gzip
import io
import signal
import tracemalloc
import warnings

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.io.fits import MAX_BYTES, BadStamp, StampParser, gunzip

SIZE = 51
TYPES = ("u1", "i2", "i4", "i8", "f4", "f8")


def image(kind: str = "f4", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 40, (SIZE, SIZE)).astype(kind)


def fits_bytes(data: np.ndarray | None, cards: dict[str, object] | None = None) -> bytes:
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(cards or {})
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu.writeto(buffer, output_verify="ignore")
    return buffer.getvalue()


def by_astropy(data: bytes) -> np.ndarray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(data), memmap=False) as hdus:
            return np.asarray(hdus[0].data).astype(np.float32)


def ours(data: bytes) -> np.ndarray:
    out = np.empty((SIZE, SIZE), np.float32)
    with np.errstate(all="ignore"):
        out[...] = StampParser(SIZE).read(data)
    return out


def assert_as_astropy(found: np.ndarray, data: bytes) -> None:
    def out_of_patience(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, out_of_patience)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        expected = by_astropy(data)
    except Exception:
        # A stray byte in a comment is enough for astropy to refuse a file, and a repeated
        # NAXIS with an absurd value keeps it busy for ever; the pixels are there.
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(found, expected)


def is_simple(data: bytes) -> bool:
    return StampParser(SIZE)._simple(data) is not None


@pytest.mark.parametrize("kind", TYPES)
def test_plain_images_of_all_types(kind: str) -> None:
    data = fits_bytes(image(kind))
    assert is_simple(data)
    np.testing.assert_array_equal(ours(data), image(kind).astype(np.float32))
    np.testing.assert_array_equal(ours(data), by_astropy(data))


@pytest.mark.parametrize(
    "cards",
    [{"BSCALE": 0.5, "BZERO": 32768.0}, {"BZERO": 10}, {"BLANK": 100}, {"BSCALE": 2}],
)
@pytest.mark.parametrize("kind", TYPES)
def test_scaled_images_go_through_astropy(kind: str, cards: dict[str, float]) -> None:
    plain = fits_bytes(image(kind))
    head, rest = plain[: 80 * 5], plain[80 * 5 :]
    more = b"".join(f"{k:8}= {v:>20}".encode().ljust(80) for k, v in cards.items())
    data = head + more + rest[: 2880 - 400 - len(more)] + plain[2880:]
    assert not is_simple(data)
    np.testing.assert_array_equal(ours(data), by_astropy(data))


def test_unsigned_integers() -> None:
    pixels = image("f8").clip(0).astype(np.uint16) * 300
    np.testing.assert_array_equal(ours(fits_bytes(pixels)), pixels.astype(np.float32))


def test_long_headers_and_text_with_end_in_it() -> None:
    cards: dict[str, object] = {f"KEY{i}": (i, "the END of it") for i in range(90)}
    data = fits_bytes(image(), {**cards, "ENDTIME": 7, "OBJECT": "END"})
    assert is_simple(data)
    np.testing.assert_array_equal(ours(data), image())


def test_missing_padding_is_no_damage() -> None:
    data = fits_bytes(image())
    np.testing.assert_array_equal(ours(data[: 2880 + 4 * SIZE * SIZE]), image())


def test_nan_and_infinity_come_through() -> None:
    pixels = image()
    pixels[3, 4], pixels[5, 6] = np.nan, np.inf
    np.testing.assert_array_equal(ours(fits_bytes(pixels)), pixels)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(5000), "not a FITS file"),
        (b"<html>404</html>", "not a FITS file"),
        (b"SIMPLE  =", "cut off within its header"),
        (fits_bytes(image())[:2000], "cut off within its header"),
        (fits_bytes(image())[:9000], "cut off (6120 of 10404 bytes of pixels)"),
        (fits_bytes(image())[:2880], "cut off (0 of 10404"),
        (fits_bytes(image()[:, :49]), "51x49 px instead of 51x51"),
        (fits_bytes(np.zeros((2, 51, 51), "f4")), "2x51x51 px instead"),
        (fits_bytes(None), "no image"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(BadStamp) as caught:
        StampParser(SIZE).read(data)
    assert reason in str(caught.value)


def test_promised_terabyte_costs_nothing() -> None:
    data = fits_bytes(image())
    for axis in (b"NAXIS1  =                   51", b"NAXIS2  =                   51"):
        data = data.replace(axis, axis[:10] + b"%20d" % 1_000_000)
    tracemalloc.start()
    with pytest.raises(BadStamp, match="1000000x1000000 px"):
        StampParser(SIZE).read(data)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_gzip() -> None:
    data = fits_bytes(image())
    assert gunzip(gzip.compress(data)) == data
    for damaged in (gzip.compress(data)[:-500], b"\x1f\x8bnot gzip at all", b""):
        with pytest.raises(BadStamp):
            gunzip(damaged)


def test_gzip_bomb() -> None:
    bomb = gzip.compress(bytes(300 * MAX_BYTES))
    tracemalloc.start()
    with pytest.raises(BadStamp, match="more than a stamp"):
        gunzip(bomb)
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    tracemalloc.stop()


WHOLE = [fits_bytes(image(kind)) for kind in ("f4", "i2", "f8")] + [
    fits_bytes(image("i2").astype(np.uint16)),
    fits_bytes(image(), {"BLANK": 3, "HIERARCH LONG KEY": "x", "NAXIS9": 4}),
]


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, len(WHOLE) - 1),
    changes=st.lists(
        st.tuples(
            st.integers(0, 3000),
            st.binary(min_size=1, max_size=30)
            | st.sampled_from(
                [b"BZERO   =", b"END", b"bscale  =   2", b"T", b"51", b"END" + b" " * 77]
            ),
        ),
        max_size=4,
    ),
    cut=st.none() | st.integers(0, 15000),
)
def test_mutated_files_give_astropys_values_or_a_reason(
    which: int, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(WHOLE[which])
    for place, new in changes:
        data[place : place + len(new)] = new
    mutated = bytes(data[:cut])
    try:
        found = ours(mutated)
    except BadStamp as error:
        assert str(error)
        return
    assert_as_astropy(found, mutated)


@settings(max_examples=200, deadline=None)
@given(
    cards=st.lists(
        st.sampled_from(["BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BZERO", "GROUPS", "END"]),
        max_size=3,
    ),
    value=st.sampled_from(["51", "-32", "2", "T", "F", "-1", "1.5", "'x'", "", "9" * 20]),
    place=st.integers(0, 8),
    lower=st.booleans(),
)  # fmt: skip
def test_strange_cards_give_astropys_values_or_a_reason(
    cards: list[str], value: str, place: int, lower: bool
) -> None:
    data = fits_bytes(image(), {f"K{i}": i for i in range(12)})
    for n, card in enumerate(cards):
        text = f"{card.lower() if lower else card:8}= {value:>20}".encode().ljust(80)
        at = (place + n) * 80
        data = data[:at] + text + data[at + 80 :]
    try:
        found = ours(data)
    except BadStamp:
        return
    assert_as_astropy(found, data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=9000) | st.binary(max_size=6000).map(lambda b: b"SIMPLE  =" + b))
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(BadStamp):
        StampParser(SIZE).read(data)
