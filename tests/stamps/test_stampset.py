"""The stamp set: round trip, and every way in which a folder is not one."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_stamps, write_set

from rb.errors import UserError
from rb.stamps import StampSet, StampSetWriter, writer


def rows(ids: list[int], **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, "label": [0] * len(ids)} | columns)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_what_was_appended_comes_back(tmp_path_factory, sizes, seed):
    if not sum(sizes):
        sizes = [*sizes, 1]
    rng = np.random.default_rng(seed)
    stamps = rng.normal(size=(sum(sizes), 3, 51, 51)).astype(np.float32)
    labels = rng.integers(0, 2, sum(sizes))
    path = tmp_path_factory.mktemp("sets") / "set"
    with StampSetWriter(path, source="test", parameters={"a": 1}) as writer:
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            ids = list(range(start, start + size))
            writer.append(stamps[part], pd.DataFrame({"id": ids, "label": labels[part]}))
            start += size
    back = StampSet.open(path)
    np.testing.assert_array_equal(back.stamps, stamps)
    np.testing.assert_array_equal(back.labels, labels)
    assert back.meta["parameters"] == {"a": 1}
    back.verify()


def test_the_summary_tells_numbers_and_nan(tmp_path):
    stamps, labels = toy_stamps(10)
    stamps[3, 1, 0, :4] = np.nan
    with StampSetWriter(tmp_path / "s", source="x", parameters={}, survey="Our Survey") as writer:
        writer.append(stamps, pd.DataFrame({"id": range(10), "label": labels}))
    text = str(StampSet.open(tmp_path / "s"))
    assert "Our Survey: 10 candidates" in text
    assert "5 real, 5 bogus, 0 unknown" in text
    assert "4 pixels in 1 stamps" in text


def test_absent_channels_do_not_count_as_nan(tmp_path):
    s = write_set(tmp_path / "s", 6, channels=("srch", "tmpl"))
    assert s.channels == ("srch", "tmpl")
    assert s.meta["n_nan_pixels"] == 0


def test_null_labels_are_unknown(tmp_path):
    with StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer:
        writer.append(
            np.zeros((3, 3, 51, 51)), pd.DataFrame({"id": [1, 2, 3], "label": [0, None, 1]})
        )
    assert StampSet.open(tmp_path / "s").labels.tolist() == [0, -1, 1]


def test_side_tables(tmp_path):
    with StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer:
        writer.append(np.zeros((1, 3, 51, 51)), rows([7]))
        writer.add_table("frames", pd.DataFrame({"seeing": [1.1]}))
    s = StampSet.open(tmp_path / "s")
    assert s.table("frames")["seeing"].tolist() == [1.1]
    with pytest.raises(UserError, match="no side table 'sky'.*frames"):
        s.table("sky")


def test_the_digest_depends_on_pixels_and_catalogue(tmp_path):
    a = write_set(tmp_path / "a", 10, seed=1)
    b = write_set(tmp_path / "b", 10, seed=1)
    c = write_set(tmp_path / "c", 10, seed=2)
    assert a.digest == b.digest != c.digest


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([1, 1], [0, 1], "occur more than once.*id 1"),
        ([1, 2], [0, 2], "candidate 2 has label '2'"),
        ([1, 2], [0, "real"], "candidate 2 has label 'real'"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_left(tmp_path, ids, labels, message):
    with (
        pytest.raises(UserError, match=message),
        StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer,
    ):
        writer.append(np.zeros((2, 3, 51, 51)), pd.DataFrame({"id": ids, "label": labels}))
    assert list(tmp_path.iterdir()) == []


def test_no_id_column(tmp_path):
    with (
        pytest.raises(UserError, match="no column 'id'"),
        StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer,
    ):
        writer.append(np.zeros((1, 3, 51, 51)), pd.DataFrame({"label": [0]}))


@pytest.mark.parametrize("shape", [(2, 3, 51, 50), (2, 51, 51), (2, 2, 51, 51)])
def test_wrong_shapes(tmp_path, shape):
    with (
        pytest.raises(UserError, match=r"expected \(n, 3, size, size\)"),
        StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer,
    ):
        writer.append(np.zeros(shape), rows([1, 2]))


def test_an_interruption_leaves_nothing(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer,
    ):
        writer.append(np.zeros((1, 3, 51, 51)), rows([1]))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_empty_set_is_not_written(tmp_path):
    with (
        pytest.raises(UserError, match="no stamps"),
        StampSetWriter(tmp_path / "s", source="x", parameters={}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_existing_sets_stay_unless_told(tmp_path):
    before = write_set(tmp_path / "s", 4, seed=1).digest
    with pytest.raises(UserError, match="exists already"):
        write_set(tmp_path / "s", 4, seed=2)
    assert StampSet.open(tmp_path / "s").digest == before
    with StampSetWriter(tmp_path / "s", source="x", parameters={}, overwrite=True) as writer:
        writer.append(np.zeros((1, 3, 51, 51)), rows([1]))
    assert len(StampSet.open(tmp_path / "s")) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(UserError, match="No space left on device.*nothing was kept"),
        StampSetWriter(tmp_path / "s", source="x", parameters={}) as writer,
    ):
        writer.append(np.zeros((1, 3, 51, 51)), rows([1]))
        array = writer._files["stamps"]
        array.file = FullDisk(array.file)
        writer.append(np.zeros((1, 3, 51, 51)), rows([2]))
    assert list(tmp_path.iterdir()) == []


def damage(path: Path, kind: str) -> None:
    stamps, meta = path / "stamps.npy", path / "meta.json"
    match kind:
        case "no meta":
            meta.unlink()
        case "broken meta":
            meta.write_text("{")
        case "other json":
            meta.write_text("[1]")
        case "future format":
            meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 99}))
        case "truncated stamps":
            stamps.write_bytes(stamps.read_bytes()[:-5000])
        case "no stamps":
            stamps.unlink()
        case "pickle":
            np.save(stamps, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        case "other array":
            np.save(stamps, np.zeros((4, 51, 51)))
        case "fewer stamps":
            np.save(stamps, np.zeros((3, 3, 51, 51), dtype=np.float32))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no meta", "no meta.json"),
        ("broken meta", "meta.json: not readable"),
        ("other json", "not a description"),
        ("future format", "format 99"),
        ("truncated stamps", "truncated or not an array"),
        ("no stamps", "stamps.npy: missing"),
        ("pickle", "truncated or not an array"),
        ("other array", "expected float32"),
        ("fewer stamps", "holds 3 stamps, meta.json promises 8"),
    ],
)
def test_damaged_sets_are_refused(tmp_path, kind, message):
    write_set(tmp_path / "s", 8)
    damage(tmp_path / "s", kind)
    with pytest.raises(UserError, match=message):
        StampSet.open(tmp_path / "s")


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: there is no stamp set"):
        StampSet.open(tmp_path / "nowhere")


def test_columns_are_read_without_the_rest_of_the_catalogue(stamp_set):
    assert list(stamp_set.columns(["snr", "id"]).columns) == ["snr", "id"]
    assert list(stamp_set.columns(["mag", "flux"], required=False).columns) == ["mag"]
    with pytest.raises(UserError, match="the catalogue has no column flux"):
        stamp_set.columns(["mag", "flux"])
    assert stamp_set.labels.sum() == len(stamp_set) // 2
    assert "catalogue" not in vars(stamp_set)  # nothing above needed all of it
    assert set(stamp_set.column_names) == set(stamp_set.catalogue.columns)
    np.testing.assert_array_equal(stamp_set.columns(["snr"])["snr"], stamp_set.catalogue["snr"])


def test_a_truncated_catalogue_is_refused(tmp_path):
    write_set(tmp_path / "s", 8)
    file = tmp_path / "s" / "catalogue.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="catalogue.parquet: truncated"):
        _ = StampSet.open(tmp_path / "s").labels


def test_changed_pixels_do_not_verify(tmp_path):
    write_set(tmp_path / "s", 8)
    file = tmp_path / "s" / "stamps.npy"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="the content is not what was written"):
        StampSet.open(tmp_path / "s").verify()


def test_batches_cover_the_set_once(stamp_set):
    seen = np.concatenate([np.arange(len(stamp_set))[r] for r, _ in stamp_set.batches(50)])
    assert seen.tolist() == list(range(len(stamp_set)))


def test_header_has_room_for_any_number():
    import io

    file = io.BytesIO()
    writer.write_npy_header(file, (0, 3, 51, 51))
    small = file.tell()
    file.seek(0)
    writer.write_npy_header(file, (10**12, 3, 51, 51))
    assert file.tell() == small
