from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.errors import UserError
from rb.features import ALL_38, FEATURES_FROM_STAMP
from rb.features.table import FeatureTable, read_table

REAL = "autoscan/autoscan_features_10000rows.csv"
HEADER = ["ID", "OBJECT_TYPE", *ALL_38]


def rows(n: int = 6) -> list[list[str]]:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (n, 38)).round(4)
    return [[str(100 + i), str(i % 2), *map(str, v)] for i, v in enumerate(values)]


def write(path: Path, body: list[list[str]], comments: int = 6, header=HEADER) -> Path:
    lines = [f"# comment {i}, with, commas" for i in range(comments)]
    lines += [",".join(header), *(",".join(r) for r in body)]
    path.write_text("\n".join(lines) + "\n")
    return path


def refused(path: Path, match: str, **how) -> None:
    with pytest.raises(UserError, match=match) as caught:
        read_table(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message


def test_the_real_rows(shared_data):
    table = read_table(shared_data / REAL)
    assert len(table) == 10_000
    assert (table.labels == 0).sum() == 5_086
    assert list(table.features.columns) == list(ALL_38)
    assert table.features["MAG_REF"].isna().sum() == 614
    assert set(table.features["BAND"]) == {1, 2, 3, 4}
    frame = pd.read_csv(shared_data / REAL)
    np.testing.assert_array_equal(table.features, frame[list(ALL_38)])
    np.testing.assert_array_equal(table.ids, frame["ID"])


@pytest.mark.parametrize("comments", [0, 6, 11])
def test_comments_and_values_survive(tmp_path, comments):
    body = rows()
    table = read_table(write(tmp_path / "t.csv", body, comments))
    np.testing.assert_array_equal(table.ids, np.arange(100, 106))
    np.testing.assert_array_equal(table.labels, [0, 1] * 3)
    expected = [[float(c) for c in r[2:]] for r in body]
    np.testing.assert_array_equal(table.features, expected)


def test_gzip_blank_lines_carriage_returns_and_a_byte_order_mark(tmp_path):
    plain = write(tmp_path / "t.csv", rows(), 0)
    expected = read_table(plain)
    text = plain.read_text().replace("\n", "\r\n\r\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    table = read_table(tmp_path / "t.csv.gz")
    assert table.digest == expected.digest


def test_missing_values_in_every_spelling(tmp_path):
    body = rows()
    for row, cell in zip(body, ["", "nan", "NaN", "NULL", "-nan", "NA"], strict=True):
        row[5] = cell
    table = read_table(write(tmp_path / "t.csv", body))
    assert table.features.iloc[:, 3].isna().all()
    assert table.features.drop(columns=table.features.columns[3]).notna().all().all()


def test_bands_are_letters_or_codes(tmp_path):
    column = HEADER.index("BAND")
    body = rows()
    for row, cell in zip(body, ["g", " r", "i", "Z", "3", ""], strict=True):
        row[column] = cell
    table = read_table(write(tmp_path / "t.csv", body))
    np.testing.assert_array_equal(table.features["BAND"], [1, 2, 3, 4, 3, np.nan])
    body[4][column] = "H-alpha"
    refused(write(tmp_path / "t.csv", body), r"line 12, column BAND: 'H-alpha' is not a number")


def test_ids_keep_all_their_digits(tmp_path):
    body = rows(2)
    body[0][0], body[1][0] = "9007199254740993", "9007199254740992"
    table = read_table(write(tmp_path / "t.csv", body))
    assert table.ids.tolist() == [9007199254740993, 9007199254740992]


def test_columns_in_any_order_and_more_of_them(tmp_path):
    body = rows()
    order = [0, *range(39, 0, -1)]
    shuffled = [[r[i] for i in order] + ["text"] for r in body]
    path = write(tmp_path / "t.csv", shuffled, 2, [HEADER[i] for i in order] + ["REMARK"])
    assert read_table(path).digest == read_table(write(tmp_path / "u.csv", body)).digest


def test_labels_may_be_absent_when_told(tmp_path):
    body = [[r[0], *r[2:]] for r in rows()]
    path = write(tmp_path / "t.csv", body, header=["ID", *ALL_38])
    refused(path, "line 7: no column OBJECT_TYPE")
    table = read_table(path, labels=False)
    assert (table.labels == -1).all()
    assert len(table.labelled()) == 0


@pytest.mark.parametrize(
    ("row", "column", "cell", "match"),
    [
        (0, "OBJECT_TYPE", "2", r"line 8, column OBJECT_TYPE: '2' is neither 0"),
        (3, "OBJECT_TYPE", "real", r"line 11, column OBJECT_TYPE: 'real' is not an integer"),
        (3, "OBJECT_TYPE", "0.5", r"line 11, column OBJECT_TYPE: '0.5' is not an integer"),
        (3, "OBJECT_TYPE", "", r"line 11, column OBJECT_TYPE: 'nan' is missing"),
        (2, "ID", "", r"line 10, column ID: 'nan' is missing"),
        (2, "ID", "12a", r"line 10, column ID: '12a' is not an integer"),
        (2, "ID", "1.5", r"line 10, column ID: '1.5' is not an integer"),
        (2, "ID", "1e300", r"line 10, column ID: '1e300' is not an integer"),
        (4, "ID", "101", r"line 12: ID 101 is already in line 9 \(1 duplicates"),
        (5, "SNR", "12;3", r"line 13, column SNR: '12;3' is not a number"),
        (5, "MAG", '"22"', r"line 13, column MAG: '\"22\"' is not a number"),
    ],
)
def test_cells_that_make_no_sense(tmp_path, row, column, cell, match):
    body = rows()
    body[row][HEADER.index(column)] = cell
    refused(write(tmp_path / "t.csv", body), match)


def test_line_numbers_count_blank_lines(tmp_path):
    body = rows()
    body[4][HEADER.index("SNR")] = "?"
    path = write(tmp_path / "t.csv", body, 0)
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:3], "", "  ", *lines[3:]]))
    refused(path, "line 8, column SNR")


def test_files_that_are_no_table(tmp_path):
    path = tmp_path / "t.csv"
    refused(path, "no such file")
    refused(tmp_path, "no such file")
    path.write_text("")
    refused(path, "empty")
    path.write_text("# only\n# comments\n")
    refused(path, "empty, or comments only")
    refused(write(path, []), "no rows")
    path.write_bytes(b"\xff\xfe\x00\x01" * 50)
    refused(path, "not text|no column")
    path.write_text("a,b\n1,2\n")
    refused(path, "no column ID, OBJECT_TYPE")
    write(path, [["1", "0", *["1"] * 38, "2"]], header=[*HEADER, "SNR"])
    refused(path, "column SNR occurs twice")
    zipped = tmp_path / "t.csv.gz"
    zipped.write_bytes(gzip.compress(b"abc" * 1000)[:20])
    refused(zipped, "cannot be read")


def test_cut_short_or_glued_lines(tmp_path):
    path = write(tmp_path / "t.csv", rows())
    text = path.read_text()
    path.write_text(text[: len(text) - 150])
    refused(path, r"line 13 has \d+ cells, the header has 40 columns; is the file cut short")
    lines = text.split("\n")
    path.write_text("\n".join([*lines[:8], lines[8] + lines[9], *lines[10:]]))
    refused(path, "line 9 has 79 cells")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_a_clear_error_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    raw = bytearray(write(path, rows(4), 2).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if how == "flip":
            raw[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del raw[at : at + data.draw(st.integers(1, 200))]
        else:
            raw[at:at] = data.draw(st.binary(max_size=20))
        if not raw:
            break
    path.write_bytes(bytes(raw))
    try:
        table = read_table(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert np.isin(table.labels, (0, 1)).all()
        assert len(np.unique(table.ids)) == len(table)


def test_rows_and_features_of_a_table(tmp_path):
    table = read_table(write(tmp_path / "t.csv", rows()))
    part = table.take(np.array([4, 1]))
    assert part.ids.tolist() == [104, 101]
    assert part.features.iloc[0].tolist() == table.features.iloc[4].tolist()
    assert table.take(table.labels == 1).ids.tolist() == [101, 103, 105]
    assert list(table.restricted(FEATURES_FROM_STAMP).features) == list(FEATURES_FROM_STAMP)
    with pytest.raises(UserError, match="no feature NOVELTY"):
        table.restricted(["SNR", "NOVELTY"])
    assert len({table.digest, part.digest, table.restricted(["SNR"]).digest}) == 3
    with pytest.raises(ValueError, match="differ in length"):
        FeatureTable(table.ids[:2], table.labels, table.features)
