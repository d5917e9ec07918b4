"""Verdicts that replace the labels of a stamp set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import write_set

from rb.errors import UserError
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.label_table import as_numbers, as_text, digest_of, read_verdicts, stamp_mark
from rb.stamps.relabelled import RelabelledSet, relabel
from rb.stamps.splits import make_split


def write(path: Path, **columns: object) -> Path:
    table = pd.DataFrame(columns)
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path)
    return path


def opened(stamp_set: StampSet, table: Path) -> StampSet:
    return open_stamps({"name": "stamps", "path": str(stamp_set.path), "labels": str(table)})


@pytest.mark.parametrize("name", ["v.parquet", "v.csv"])
def test_verdicts_replace_labels_and_the_rest_stays(stamp_set, tmp_path, name):
    # Of the toy set, even ids are real and odd ones bogus.
    table = write(
        tmp_path / name,
        id=[1000, 1001, 1002, 1003],
        verdict=pd.array([1, 0, None, 1], dtype="Int8"),
    )
    new = opened(stamp_set, table)
    assert new.labels[:4].tolist() == [1, 0, -1, 1]
    np.testing.assert_array_equal(new.labels[4:], stamp_set.labels[4:])
    np.testing.assert_array_equal(new.ids, stamp_set.ids)
    assert new.catalogue["label"].isna().sum() == 1
    assert new.columns(["label", "mag"])["label"].tolist()[:2] == [1, 0]
    assert "label" not in new.columns(["mag"])
    np.testing.assert_array_equal(new[5], stamp_set[5])
    facts = new.meta["labels"]
    turned = [facts[f"n_{k}"] for k in ("real_to_bogus", "bogus_to_real", "to_unknown")]
    assert turned == [1, 1, 1]
    assert "1 to real, 1 to bogus, 1 to unknown" in str(new)
    assert stamp_set.labels[0] == 0  # the set itself is as it was
    new.verify()


def test_unknown_labels_are_in_no_subset_and_a_new_label_is(tmp_path):
    base = write_set(tmp_path / "set", 60)
    none = write(tmp_path / "none.csv", id=[1000, 1001], verdict=["", -1])
    new = opened(base, none)
    split = make_split(new.labels, new.groups)
    assert not {0, 1} & set(np.concatenate([split.train, split.val, split.test]).tolist())
    # The other way round: a set without a label gets one.
    back = RelabelledSet(
        new, Path("x"), read_verdicts(write(tmp_path / "b.csv", id=[1000], label=[0]))
    )
    assert back.labels[0] == 0
    assert back.meta["labels"]["n_unknown_to_known"] == 1


def test_the_digest_tells_labels_apart_but_not_files(stamp_set, tmp_path):
    first = opened(stamp_set, write(tmp_path / "a.csv", id=[1000, 1003], verdict=[1, 0]))
    same = opened(stamp_set, write(tmp_path / "b.parquet", id=["1003", "1000"], verdict=[0.0, 1.0]))
    other = opened(stamp_set, write(tmp_path / "c.csv", id=[1000, 1005], verdict=[1, 0]))
    assert first.digest == same.digest
    assert len({stamp_set.digest, first.digest, other.digest}) == 3
    assert first.meta["digest"] == stamp_set.digest


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_table_of_verdicts_means_what_it_says(stamp_set, tmp_path, data):
    ids = data.draw(st.lists(st.sampled_from(stamp_set.ids.tolist()), min_size=1, unique=True))
    verdicts = data.draw(
        st.lists(st.sampled_from([0, 1, -1]), min_size=len(ids), max_size=len(ids))
    )
    new = relabel(stamp_set, write(tmp_path / "t.parquet", id=ids, verdict=verdicts))
    expected = dict(zip(stamp_set.ids.tolist(), stamp_set.labels.tolist(), strict=True))
    expected |= dict(zip(ids, verdicts, strict=True))
    assert new.labels.tolist() == list(expected.values())
    assert new.labels.dtype == np.int8


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1000, 7], "verdict": [0, 1]}, "1 of 2 ids in .* are not in the set .* is 7"),
        ({"id": [1000, 1000], "verdict": [0, 1]}, "names 1 candidates more than once.* id 1000"),
        ({"id": [], "verdict": []}, "is empty"),
        ({"id": [1000], "answer": [0]}, "no column 'verdict'; its columns are id, answer"),
        ({"name": [1000], "verdict": [0]}, "no column 'id'"),
        ({"id": [1000], "verdict": [2]}, "says '2' of candidate 1000; a verdict is 0"),
        ({"id": [1000], "verdict": [True]}, "says 'True' of candidate 1000; a verdict is 0"),
        ({"id": [1000, 1001], "label": [None, False]}, "says 'False' of candidate 1001; a label"),
        ({"id": [1000], "verdict": ["real"]}, "says 'real' of candidate 1000"),
        ({"id": [1000, None], "verdict": [0, 1]}, "has no id in row 2"),
        ({"id": [1000], "label": [0], "suggested": [1]}, "lists suspects, not verdicts"),
        ({"id": [1000], "verdict": [0], "stamp": ["00000000"]}, "1000 of .* other pixels"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(stamp_set, tmp_path, columns, message):
    table = write(tmp_path / "v.parquet", **columns)
    with pytest.raises(
        UserError, match=f"data.labels: .*{message}|data.labels: .*{message}"
    ) as caught:
        opened(stamp_set, table)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_table_are_refused(stamp_set, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        opened(stamp_set, tmp_path / "none.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="no readable table"):
        opened(stamp_set, tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(UserError, match="no readable table"):
        opened(stamp_set, tmp_path / "x.csv")


def test_true_in_a_csv_is_no_verdict(stamp_set, tmp_path):
    table = tmp_path / "v.csv"
    table.write_text("id,verdict\n1000,True\n1001,\n")
    with pytest.raises(UserError, match="says 'True' of candidate 1000"):
        opened(stamp_set, table)


def test_a_mark_tells_stamps_apart(stamp_set, tmp_path):
    marks = [stamp_mark(stamp) for stamp in stamp_set.stamps[:50]]
    assert len(set(marks)) == 50
    table = write(tmp_path / "v.csv", id=[1007, 1008], verdict=[0, 0], stamp=[marks[7], None])
    assert opened(stamp_set, table).labels[7] == 0


def test_a_feature_table_without_stamps_is_relabelled_too(tmp_path):
    features = pd.DataFrame({"ID": [7, 8, 9], "OBJECT_TYPE": [0, 1, 1], "MAG": [21.0, 22.0, 23.0]})
    features.to_csv(tmp_path / "f.csv", index=False)
    table = write(tmp_path / "v.csv", id=[8], verdict=[0], stamp=["0123abcd"])
    config = {"name": "features", "table": str(tmp_path / "f.csv"), "labels": str(table)}
    new = open_stamps(config)
    assert dict(zip(new.ids.tolist(), new.labels.tolist(), strict=True)) == {7: 0, 8: 0, 9: 1}
    assert new.columns(["mag", "label"])["label"].tolist() == [0, 0, 1]


def test_a_mark_of_digits_stays_text_in_csv(tmp_path):
    table = tmp_path / "v.csv"
    table.write_text("id,verdict,stamp\n1,0,00000012\n2,1,12345e07\n")
    assert read_verdicts(table)["stamp"].tolist() == ["00000012", "12345e07"]


def test_identifiers_are_the_same_however_they_are_written():
    assert as_text(np.array([17.0, 18.0])).tolist() == ["17", "18"]
    assert as_text(np.array([" 17", "ztf-1"])).tolist() == ["17", "ztf-1"]
    assert as_text(np.array([2**53 + 1])).tolist() == [str(2**53 + 1)]
    assert as_numbers(np.array(["1", "20"], dtype=object)).dtype == np.int64
    for kept in (["1", "ztf-1"], ["007"], [str(2**70)]):
        assert as_numbers(np.array(kept, dtype=object)).tolist() == kept


def test_the_digest_of_a_table_does_not_depend_on_its_order():
    table = pd.DataFrame({"id": ["1", "2"], "verdict": np.array([0, 1], np.int8)})
    assert digest_of(table) == digest_of(table.iloc[::-1])
    assert digest_of(table) != digest_of(table.assign(verdict=np.array([0, -1], np.int8)))
