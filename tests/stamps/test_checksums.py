"""A flipped bit in a stamp set is noticed when it is read, and named."""

from __future__ import annotations

import numpy as np
import pytest
from toys import write_set

from rb.errors import UserError
from rb.stamps import StampSet

FILES = ("stamps.npy", "variance.npy", "psf.npy", "catalogue.parquet", "meta.json")


def read_all(path) -> None:
    opened = StampSet.open(path)
    opened.read(slice(None))
    assert len(opened.catalogue) == len(opened.columns(["id"])) == len(opened.labels)


def flip(file, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("name", [*FILES, "checksums.npz"])
def test_a_flipped_bit_is_noticed(tmp_path, name):
    write_set(tmp_path / "set", 6, size=9, beside=True)
    read_all(tmp_path / "set")
    file = tmp_path / "set" / name
    whole = file.read_bytes()
    bits = np.random.default_rng(1).integers(8 * len(whole), size=60)
    unnoticed = 0
    for bit in bits.tolist():
        flip(file, bit)
        try:
            read_all(tmp_path / "set")
        except UserError as error:
            assert str(tmp_path / "set") in str(error), error
        else:
            unnoticed += 1
        file.write_bytes(whole)
    # Headers have spaces to fill them up; an archive this small is little else.
    assert unnoticed <= (2 if name.endswith(".npy") else 0) or name == "checksums.npz"


def test_the_row_is_named_and_others_can_be_read(tmp_path):
    written = write_set(tmp_path / "set", 20, size=9)
    flip(tmp_path / "set" / "stamps.npy", 8 * (128 + 4 * 243 * 7 + 5))
    opened = StampSet.open(tmp_path / "set")
    assert np.array_equal(opened[[3, 8]], written[[3, 8]])
    for rows in (7, slice(4, 9), [2, 7], np.array([7, 1])):
        with pytest.raises(UserError, match=r"stamps\.npy: damaged, row 7 is not what was written"):
            opened[rows]
    with pytest.raises(UserError, match="damaged, row 7"):
        list(opened.batches(10))


def test_a_set_without_checksums_is_read(tmp_path):
    write_set(tmp_path / "set", 6, size=9)
    (tmp_path / "set" / "checksums.npz").unlink()
    read_all(tmp_path / "set")
