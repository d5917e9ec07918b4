"""Where features come from, and that those of stamps are computed once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from toys import toy_stamps, write_set

from rb.errors import UserError
from rb.features import ALL_38, FEATURES_FROM_STAMP, autoscan
from rb.features.source import choose, features_of
from rb.features.table import read_table
from rb.sources.features import FeatureSet, open_stamps
from rb.stamps import StampSet, StampSetWriter


def table_frame(n: int = 12, features=ALL_38) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(0, 1, (n, len(features))), columns=list(features))
    if "BAND" in frame:
        frame["BAND"] = np.array(list("griz"))[np.arange(n) % 4]
    frame.insert(0, "OBJECT_TYPE", np.arange(n) % 2)
    frame.insert(0, "ID", np.arange(n) + 50)
    return frame


def catalogue_set(path, features=ALL_38) -> StampSet:
    stamps, labels = toy_stamps(12)
    rows = table_frame(12, features).drop(columns=["ID", "OBJECT_TYPE", "BAND"], errors="ignore")
    if "BAND" in features:
        rows["BAND"] = 2.0
    rows = rows.assign(id=np.arange(12), label=labels, group="one")
    with StampSetWriter(path, source="toy", parameters={}) as writer:
        writer.append(stamps, rows)
    return StampSet.open(path)


def test_auto_takes_the_catalogue_where_it_has_all(tmp_path, stamp_set):
    whole = catalogue_set(tmp_path / "whole")
    assert choose(whole) == ("catalogue", ALL_38)
    assert choose(whole, "stamps") == ("stamps", FEATURES_FROM_STAMP)
    assert choose(stamp_set) == ("stamps", FEATURES_FROM_STAMP)
    part = catalogue_set(tmp_path / "part", ("SNR", "MAG", "L1"))
    assert choose(part) == ("stamps", FEATURES_FROM_STAMP)
    assert choose(part, "auto", ["MAG", "L1"]) == ("catalogue", ("MAG", "L1"))
    assert choose(part, "catalogue") == ("catalogue", ("L1", "MAG", "SNR"))
    assert choose(part, "auto", ["L1", "AMP"]) == ("stamps", ("L1", "AMP"))
    with pytest.raises(UserError, match="stamps do not determine MAG_REF"):
        choose(part, "auto", ["SNR", "MAG_REF"])
    with pytest.raises(UserError, match="no feature of the autoscan table"):
        choose(stamp_set, "catalogue")


def test_sets_without_the_difference_have_no_features(tmp_path):
    without = write_set(tmp_path / "s", 12, channels=("srch", "tmpl"))
    with pytest.raises(UserError, match="need diff and tmpl, the set has only srch, tmpl"):
        choose(without)


def test_catalogue_values_follow_the_rows(tmp_path):
    whole = catalogue_set(tmp_path / "s")
    rows = np.array([7, 0, 3])
    found = features_of(whole, rows, ("SNR", "L1"), "catalogue")
    np.testing.assert_array_equal(found.features["SNR"], whole.catalogue["SNR"][rows])
    np.testing.assert_array_equal(found.ids, whole.ids[rows])
    np.testing.assert_array_equal(found.labels, whole.labels[rows])


def test_features_of_stamps_are_computed_once(tmp_path, stamp_set, monkeypatch):
    expected = autoscan.compute(stamp_set.stamps)
    asked: list[int] = []

    def counted(stamps, *arguments):
        asked.append(len(stamps))
        return original(stamps, *arguments)

    original = autoscan.compute
    monkeypatch.setattr(autoscan, "compute", counted)
    cache = tmp_path / "cache"
    first, second = np.array([9, 3, 5]), np.array([5, 100, 3, 0])
    for rows, new in ((first, 3), (second, 2), (first, 0)):
        asked.clear()
        found = features_of(stamp_set, rows, FEATURES_FROM_STAMP, "stamps", cache).features
        assert sum(asked) == new
        pd.testing.assert_frame_equal(found, expected.iloc[rows].reset_index(drop=True))
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:200])  # a damaged cache is computed anew
    asked.clear()
    found = features_of(stamp_set, first, ("AMP", "L1"), "stamps", cache).features
    assert sum(asked) == 3
    assert list(found.columns) == ["AMP", "L1"]
    other = write_set(tmp_path / "other", 20, seed=1)
    features_of(other, first, ("AMP",), "stamps", cache)
    assert len(list(cache.iterdir())) == 2  # a file a stamp set


def test_parquet_is_read_as_csv_is(tmp_path):
    frame = table_frame().round(6)  # pandas 2 reads more digits than these not to the bit
    frame.loc[2, "MAG_REF"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    text, typed = read_table(tmp_path / "t.csv"), read_table(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(text.features, typed.features)
    np.testing.assert_array_equal(text.ids, typed.ids)
    np.testing.assert_array_equal(text.labels, typed.labels)
    assert text.digest == typed.digest
    assert list(typed.features["BAND"][:4]) == [1, 2, 3, 4]


def test_the_catalogue_of_a_stamp_set_is_a_table(tmp_path):
    stamps = catalogue_set(tmp_path / "s", ("SNR", "L1"))
    table = read_table(tmp_path / "s/catalogue.parquet", features=None)
    assert list(table.features.columns) == ["L1", "SNR"]
    np.testing.assert_array_equal(table.labels, stamps.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="ID"), "no column ID"),
        (lambda f: f.drop(columns="OBJECT_TYPE"), "no column OBJECT_TYPE"),
        (lambda f: f.drop(columns="SNR"), "no column SNR"),
        (lambda f: f.assign(ID=1), "ID 1 occurs twice"),
        (lambda f: f.assign(ID=[None, *range(11)]), "column ID lacks a value in 1 rows"),
        (lambda f: f.assign(OBJECT_TYPE=[2] + [0] * 11), "neither 0 .real. nor 1 .bogus. in 1"),
        (lambda f: f.assign(OBJECT_TYPE=[None] + [0] * 11), "neither 0 .real. nor 1 .bogus. in 1"),
        (lambda f: f.assign(SNR=["x"] * 12), "column SNR: 'x' is not a number .12 such rows"),
        (lambda f: f.iloc[:0], "no rows"),
    ],
)
def test_parquet_that_makes_no_sense(tmp_path, change, message):
    change(table_frame()).to_parquet(tmp_path / "t.parquet", index=False)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.parquet")


def test_damaged_parquet(tmp_path):
    table_frame().to_parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    for n in (0, 10, len(content) // 2):
        (tmp_path / "cut.parquet").write_bytes(content[:n])
        with pytest.raises(UserError, match="truncated or not parquet"):
            read_table(tmp_path / "cut.parquet")


def test_a_feature_set_is_a_catalogue_without_stamps(tmp_path):
    table_frame(12, ("SNR", "L1")).to_csv(tmp_path / "t.csv", index=False)
    features = open_stamps({"table": str(tmp_path / "t.csv")})
    assert isinstance(features, FeatureSet)
    assert (len(features), features.channels) == (12, ())
    assert set(features.column_names) == {"id", "label", "group", "snr", "L1", "SNR"}
    assert choose(features) == ("catalogue", ("L1", "SNR"))
    assert features.labels.sum() == 6
    with pytest.raises(UserError, match="features without stamps"):
        _ = features.stamps
    table_frame(12, ("SNR",)).drop(columns="OBJECT_TYPE").to_csv(tmp_path / "u.csv", index=False)
    assert (open_stamps({"table": str(tmp_path / "u.csv")}).labels == -1).all()
    (tmp_path / "v.csv").write_text("ID,OBJECT_TYPE\n1,0\n")
    with pytest.raises(UserError, match="none of the autoscan features"):
        open_stamps({"table": str(tmp_path / "v.csv")})
