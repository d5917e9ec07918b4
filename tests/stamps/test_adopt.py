"""A stamp set that takes over a file which its source filled out of order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rb.errors import UserError
from rb.stamps import StampSet, StampSetWriter


def stamp_file(folder: Path, n: int = 5) -> tuple[Path, np.ndarray]:
    stamps = np.random.default_rng(1).normal(0, 1, (n, 3, 51, 51)).astype(np.float32)
    stamps[2, 1, 4, 4] = np.nan
    np.save(folder / "filled.npy", stamps)
    return folder / "filled.npy", stamps


def rows(n: int = 5) -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(n), "label": [0, 1, None, 0, 1][:n], "group": "f"})


def writer(path: Path) -> StampSetWriter:
    return StampSetWriter(path, source="x", parameters={})


def test_adopted_and_appended_sets_are_the_same(tmp_path: Path) -> None:
    file, stamps = stamp_file(tmp_path)
    with writer(tmp_path / "appended") as one:
        one.append(stamps, rows())
    with writer(tmp_path / "adopted") as two:
        two.add_document("report", {"what": "ß"})
        two.adopt(file, rows(), n_nan_pixels=1, n_nan_stamps=1)
    first, second = StampSet.open(tmp_path / "appended"), StampSet.open(tmp_path / "adopted")
    assert first.digest == second.digest
    second.verify()
    np.testing.assert_array_equal(second.stamps, stamps)
    assert second.meta["n_nan_pixels"] == first.meta["n_nan_pixels"] == 1
    assert json.loads((second.path / "report.json").read_text()) == {"what": "ß"}
    # The file itself is still there for whoever filled it.
    assert file.exists()


def test_rows_have_to_fit_and_an_error_leaves_nothing(tmp_path: Path) -> None:
    file, stamps = stamp_file(tmp_path)
    with pytest.raises(UserError, match="5 stamps came with 4 rows"), writer(tmp_path / "s") as w:
        w.adopt(file, rows(4), n_nan_pixels=0, n_nan_stamps=0)
    np.save(file, stamps[:, :2])
    with pytest.raises(UserError, match="expected float32"), writer(tmp_path / "s") as w:
        w.adopt(file, rows(), n_nan_pixels=0, n_nan_stamps=0)
    assert [p.name for p in tmp_path.iterdir()] == ["filled.npy"]


def test_adopting_excludes_appending(tmp_path: Path) -> None:
    file, stamps = stamp_file(tmp_path)
    for first_adopt in (True, False):
        with pytest.raises(ValueError, match="not both"), writer(tmp_path / "s") as w:
            if first_adopt:
                w.adopt(file, rows(), n_nan_pixels=0, n_nan_stamps=0)
            w.append(stamps, rows())
            w.adopt(file, rows(), n_nan_pixels=0, n_nan_stamps=0)


def test_a_copy_cut_short_is_noticed_when_it_is_verified(tmp_path: Path) -> None:
    file, _ = stamp_file(tmp_path)
    with writer(tmp_path / "s") as w:
        w.adopt(file, rows(), n_nan_pixels=1, n_nan_stamps=1)
    stamps = StampSet.open(tmp_path / "s")
    with (stamps.path / "stamps.npy").open("r+b") as out:
        out.seek(70_000)
        out.write(b"damage")
    with pytest.raises(UserError, match="not what was written"):
        stamps.verify()
