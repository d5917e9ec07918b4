"""Tables of packets become the same scores as files of them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pandas as pd
import pytest
from alert_makers import fits_bytes
from exported import exported
from toys import toy_stamps

from rb.cli import main
from rb.scoring.frame import score_frame


def packets(n: int) -> pd.DataFrame:
    stamps, _ = toy_stamps(n)
    names = ("cutoutDifference", "cutoutScience", "cutoutTemplate")
    columns = {name: [fits_bytes(s) for s in stamps[:, i]] for i, name in enumerate(names)}
    return pd.DataFrame({"candid": range(100, 100 + n), **columns}, index=range(7, 7 + n))


def test_the_same_as_of_a_file_and_in_pieces(tmp_path):
    frame = packets(12)
    frame.loc[9, "cutoutScience"] = b"damaged"
    frame.to_parquet(tmp_path / "alerts.parquet")
    model = str(exported()[1])
    words = ["score", str(tmp_path / "alerts.parquet"), "--model", model, "--quiet"]
    assert main([*words, "--out", str(tmp_path / "scores.parquet")]) == 0
    whole = score_frame(frame, model=model)
    assert list(whole.index) == list(frame.index)
    same = ["id", "p_real", "decision", "tags", "problem"]
    expected = pd.read_parquet(tmp_path / "scores.parquet")[same]
    pd.testing.assert_frame_equal(whole[same].reset_index(drop=True), expected)
    assert "lacks_srch" in whole["tags"][9]
    pieces = [score_frame(frame.iloc[i : i + 5], model=model) for i in range(0, 12, 5)]
    pd.testing.assert_frame_equal(pd.concat(pieces)[same], whole[same], rtol=1e-5)
    assert score_frame(frame.iloc[:0], model=model).empty


@pytest.mark.slow
def test_other_processes_can_map_it():
    frame, model = packets(8), str(exported()[1])
    parts = [frame.iloc[:4], frame.iloc[4:]]
    with ProcessPoolExecutor(2) as pool:
        found = pd.concat(pool.map(partial(score_frame, model=model), parts))
    pd.testing.assert_series_equal(
        found["p_real"], score_frame(frame, model=model)["p_real"], rtol=1e-5
    )
