"""A flipped bit in a table is noticed when it is read."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from rb.io.tables import DamagedTable, read_parquet, write_parquet


def test_flipped_bits_are_noticed(tmp_path):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"id": np.arange(3000), "p_real": rng.random(3000), "label": 1})
    table["verdict"] = pd.array(rng.integers(0, 2, 3000), dtype="Int8")
    write_parquet(table, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "t.parquet"), table)
    whole = (tmp_path / "t.parquet").read_bytes()
    wrong = 0
    for bit in rng.integers(8 * len(whole), size=150).tolist():
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        try:
            wrong += not read_parquet(io.BytesIO(content)).equals(table)
        except DamagedTable as error:
            assert "damaged" in str(error)
    assert wrong <= 1  # names and types of columns have no checksum of their own


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "none.parquet")
    (tmp_path / "t.parquet").write_text("no table")
    with pytest.raises(DamagedTable, match=r"t\.parquet: damaged, or not parquet"):
        read_parquet(tmp_path / "t.parquet")
