"""What inspectors said, kept and combined."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rb.cli import main
from rb.errors import UserError
from rb.labels.journal import (
    append_verdict,
    inspector_name,
    journal_path,
    read_journal,
    read_journals,
)
from rb.labels.merge import agreements, merge_verdicts, outcomes


def say(folder: Path, who: str, **verdicts: str) -> None:
    """Verdicts by id, e.g. ``c7="real"``; every candidate had been labelled bogus."""
    folder.mkdir(exist_ok=True)
    for name, verdict in verdicts.items():
        append_verdict(
            folder, who, id=name[1:], verdict=verdict, label=1, shown=False, stamp=f"mark{name}"
        )


def test_the_last_verdict_counts_and_a_line_cut_short_does_not(tmp_path):
    say(tmp_path, "Ada", c1="real", c2="bogus")
    say(tmp_path, "Ada", c1="unsure")
    path = journal_path(tmp_path, "Ada")
    whole = path.read_bytes()
    path.write_bytes(whole + b"3,real,1,0,mark")
    said = read_journal(path)
    assert dict(zip(said["id"], said["verdict"], strict=True)) == {"1": "unsure", "2": "bogus"}
    say(tmp_path, "Ada", c4="real")
    assert set(read_journal(path)["id"]) == {"1", "2", "4"}


def test_every_byte_of_a_journal_that_is_lost_loses_one_verdict_at_most(tmp_path):
    say(tmp_path, "Ada", c1="real", c2="bogus", c3="unsure")
    path = journal_path(tmp_path, "Ada")
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    before = 0
    for stop in range(head, len(whole) + 1):
        path.write_bytes(whole[:stop])
        said = read_journal(path)
        assert len(said) >= before
        assert said["verdict"].tolist() == ["real", "bogus", "unsure"][: len(said)]
        before = len(said)
    assert before == 3


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(one=st.text(max_size=70), other=st.text(max_size=70))
def test_names_cannot_leave_the_folder_or_share_a_file(tmp_path, one, other):
    paths = {}
    for text in (one, other):
        try:
            name = inspector_name(text)
        except UserError:
            continue
        paths[name] = journal_path(tmp_path, text)
        assert paths[name].parent == tmp_path
        assert len(paths[name].name) < 250
        assert "\n" not in paths[name].name
    assert len(set(paths.values())) == len(paths)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x00", "x" * 61, None, 7, ["x"]])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(UserError, match="name"):
        inspector_name(name)


def test_a_name_comes_back_as_it_was(tmp_path):
    for name in ("../../etc/passwd", "Åsa <b>&", "..", "a%2Fb", "-rf", "O'Neill, J."):
        say(tmp_path, name, c1="real")
    assert set(read_journals(tmp_path)) == {
        "../../etc/passwd", "Åsa <b>&", "..", "a%2Fb", "-rf", "O'Neill, J.",
    }  # fmt: skip
    assert {p.parent for p in tmp_path.rglob("*")} == {tmp_path}


def merged(tmp_path: Path, **options: object) -> pd.DataFrame:
    return merge_verdicts(read_journals(tmp_path), **options).set_index("id")  # type: ignore[arg-type]


@pytest.fixture
def three(tmp_path) -> Path:
    folder = tmp_path / "review"
    say(folder, "Ada", c1="real", c2="real", c3="real", c4="bogus", c5="unsure", c6="real")
    say(folder, "Bo", c1="real", c2="bogus", c3="bogus", c4="bogus", c5="unsure")
    say(folder, "Cy", c1="real", c2="real", c3="unsure", c4="unsure", c5="real")
    return folder


def test_more_than_half_decide(three):
    table = merged(three)
    assert table["verdict"].astype("Int64").fillna(-1).to_dict() == {
        1: 0, 2: 0, 3: -1, 4: 1, 5: -1, 6: 0,
    }  # fmt: skip
    assert table["disputed"].to_dict() == {1: False, 2: True, 3: True, 4: False, 5: False, 6: False}
    assert table.loc[3, ["n_real", "n_bogus", "n_unsure"]].tolist() == [1, 1, 1]
    assert table.loc[1, "inspectors"] == "Ada; Bo; Cy"
    assert table.loc[6, "inspectors"] == "Ada"
    assert merged(three, unanimous=True)["verdict"].isna().to_dict()[2]
    assert merged(three, at_least=2)["verdict"].isna().to_dict()[6]


def test_the_order_of_inspectors_does_not_matter(three):
    said = read_journals(three)
    turned = dict(reversed(said.items()))
    pd.testing.assert_frame_equal(merge_verdicts(said), merge_verdicts(turned))


def test_agreement_by_hand(tmp_path):
    # Ada calls half of 20 real, Bo 12; they agree on 16. By chance it would be 10.
    for k in range(20):
        say(tmp_path, "Ada", **{f"c{k}": "real" if k < 10 else "bogus"})
        say(tmp_path, "Bo", **{f"c{k}": "real" if k < 9 or k > 16 else "bogus"})
    (one,) = agreements(read_journals(tmp_path))
    assert one.n == 20
    assert one.alike.value == pytest.approx(16 / 20)
    chance = 0.5 * 12 / 20 + 0.5 * 8 / 20
    assert one.kappa == pytest.approx((0.8 - chance) / (1 - chance))


def test_agreement_of_three_and_of_the_like_minded(three, tmp_path):
    found = agreements(read_journals(three))
    assert [len(a.inspectors) for a in found] == [2, 2, 2, 3]
    assert [a.n for a in found] == [5, 5, 5, 5]
    # Fleiss' kappa by its definition (1971, eqs. 1-7).
    counts = np.array([[3, 0, 0], [2, 1, 0], [1, 1, 1], [0, 2, 1], [1, 0, 2]])
    each = ((counts**2).sum(1) - 3) / 6
    chance = ((counts.sum(0) / 15) ** 2).sum()
    assert found[-1].kappa == pytest.approx((each.mean() - chance) / (1 - chance))
    say(tmp_path / "same", "Ada", c1="real", c2="real")
    say(tmp_path / "same", "Bo", c1="real", c2="real")
    (same,) = agreements(read_journals(tmp_path / "same"))
    assert same.alike.value == 1
    assert math.isnan(same.kappa)  # always the same answer: nothing to compare chance with


def test_outcomes_are_shares_of_what_was_looked_at(three):
    (bogus,) = outcomes(merge_verdicts(read_journals(three)))
    assert (bogus.label, bogus.n) == (1, 6)
    assert bogus.overturned.value == pytest.approx(3 / 6)
    assert bogus.disputed.value == pytest.approx(3 / 6)  # 2 and 3 disputed, 5 without majority


def test_the_command_writes_a_table_that_training_takes(three, tmp_path, capsys):
    out = tmp_path / "verdicts.parquet"
    assert main(["labels", "merge", str(three), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "of 6 labelled bogus: 50.0 %" in text
    assert "all 3 (Fleiss)" in text
    assert f"data.labels={out}" in text
    from rb.stamps.label_table import read_verdicts

    verdicts = read_verdicts(out).set_index("id")["verdict"].to_dict()
    assert verdicts == {"1": 0, "2": 0, "3": -1, "4": 1, "5": -1, "6": 0}
    assert main(["labels", "merge", str(three), "--out", str(tmp_path / "v.csv")]) == 0
    assert read_verdicts(tmp_path / "v.csv").set_index("id")["verdict"].to_dict() == verdicts


@pytest.mark.parametrize(
    ("prepare", "words", "message"),
    [
        (lambda f: None, [], "holds no verdicts"),
        (lambda f: f.rmdir(), [], "there is no such folder"),
        (lambda f: (f / "verdicts-Ada.csv").write_text("id,verdict\n1,real\n"), [], "begin with"),
        (lambda f: say(f, "Ada", c1="real"), ["--out", "v.xlsx"], "ending .parquet or .csv"),
    ],
)
def test_mistakes_are_one_line(tmp_path, prepare, words, message, capsys):
    folder = tmp_path / "review"
    folder.mkdir()
    prepare(folder)
    assert main(["labels", "merge", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_verdicts_on_different_pixels_are_not_combined(tmp_path):
    for who, mark in (("Ada", "a"), ("Bo", "b")):
        append_verdict(tmp_path, who, id="1", verdict="real", label=1, shown=False, stamp=mark)
    with pytest.raises(UserError, match="different pixels of candidate 1"):
        merged(tmp_path)


def spreadsheet(path: Path, *lines: str, mark: str = "", end: str = "\n") -> Path:
    head = "id,verdict,label,shown,stamp,time"
    path.parent.mkdir(exist_ok=True)
    path.write_text(mark + "\n".join([head, *lines]) + end, encoding="utf-8")
    return path


def test_times_that_a_spreadsheet_wrote_anew_lose_no_verdict(tmp_path):
    path = spreadsheet(
        tmp_path / "verdicts-Ada.csv",
        "1,real,1,0,m1,2026-01-01T00:00:00+00:00",
        "2,bogus,1,0,m2,01/01/2026 00:00",
        "3,unsure,1,0,m3,",
        mark="\ufeff",
    )
    assert read_journal(path)["verdict"].tolist() == ["real", "bogus", "unsure"]
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    assert read_journal(path)["id"].tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2.46E+18,real,1,0,m,t", "line 3 cannot be read (id 2.46E+18 was rounded"),
        ("2,rael,1,0,m,t", "line 3 cannot be read ('rael' is none of real"),
        ("2,real", "line 3 cannot be read (2 columns instead of 6)"),
        ("2,real,x,0,m,t", "line 3 cannot be read (label 'x'"),
        (",real,1,0,m,t", "line 3 cannot be read (no id)"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_lines_that_cannot_be_read_are_named(tmp_path, line, message, last, capsys):
    lines = ["1,real,1,0,m,t", line, *([] if last else ["3,real,1,0,m,t"])]
    path = spreadsheet(tmp_path / "review" / "verdicts-Ada.csv", *lines)
    assert main(["labels", "merge", str(path.parent), "--out", str(tmp_path / "v.csv")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "v.csv").exists()


def test_only_a_last_line_that_lacks_its_end_was_cut(tmp_path):
    path = spreadsheet(tmp_path / "verdicts-Ada.csv", "1,real,1,0,m,t", "2,real,1", end="")
    assert read_journal(path)["id"].tolist() == ["1"]
    spreadsheet(path, "1,real,1,0,m,t", "2.46E+18,real,1,0,m,t", end="")
    with pytest.raises(UserError, match="rounded by a spreadsheet"):
        read_journal(path)


def test_votes_of_others_come_as_one_table(three, tmp_path, capsys):
    votes = pd.concat(
        [t.assign(inspector=name) for name, t in read_journals(three).items()], ignore_index=True
    )
    expected = tmp_path / "a.csv"
    assert main(["labels", "merge", str(three), "--out", str(expected)]) == 0
    for name, table in {
        "words.csv": votes[["id", "inspector", "verdict", "label", "stamp"]],
        "numbers.parquet": votes.assign(
            verdict=votes["verdict"].map({"real": 0, "bogus": 1, "unsure": None})
        )[["id", "inspector", "verdict", "label", "stamp"]],
    }.items():
        path = tmp_path / name
        table.to_csv(path, index=False) if name.endswith("csv") else table.to_parquet(path)
        out = tmp_path / f"{name}-out.csv"
        assert main(["labels", "merge", str(path), "--out", str(out)]) == 0
        assert out.read_text() == expected.read_text()
    votes[["id", "inspector", "verdict"]].to_csv(tmp_path / "plain.csv", index=False, sep=";")
    assert main(["labels", "merge", str(tmp_path / "plain.csv"), "--out", str(tmp_path / "p.csv")]) == 0  # fmt: skip  # noqa: E501
    plain, known = pd.read_csv(tmp_path / "p.csv"), pd.read_csv(expected)
    assert plain["verdict"].equals(known["verdict"]) and plain["label"].isna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,verdict\n1,real\n", "has no column 'inspector'; a table of votes has"),
        ("id,inspector,verdict\n1,Ada,True\n", "'True' of candidate 1 is no verdict"),
        ("id,inspector,verdict\n1,,real\n", "has no inspector in row 1"),
        ("id,inspector,verdict\n2.46E+18,Ada,real\n", "has id 2.46E+18, a floating-point number"),
    ],
)
def test_tables_that_are_no_votes(tmp_path, text, message, capsys):
    (tmp_path / "votes.csv").write_text(text)
    assert main(["labels", "merge", str(tmp_path / "votes.csv")]) == 2
    assert message in capsys.readouterr().err


def test_identifiers_of_label_tables(tmp_path):
    from rb.stamps.label_table import read_verdicts

    (tmp_path / "a.csv").write_text("\ufeffid;verdict\n17.0;0\n2460000000000000001;1\n")
    found = read_verdicts(tmp_path / "a.csv")
    assert found["id"].tolist() == ["17", "2460000000000000001"]
    table = pd.DataFrame({"id": [17, 18], "verdict": [0, 1]}).set_index("id")
    table.to_parquet(tmp_path / "a.parquet")
    assert read_verdicts(tmp_path / "a.parquet")["id"].tolist() == ["17", "18"]
    pd.DataFrame({"id": [2.0**60, 1.0], "verdict": [0, 1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match="has id 1152921504606846976, a floating-point number"):
        read_verdicts(tmp_path / "b.parquet")
