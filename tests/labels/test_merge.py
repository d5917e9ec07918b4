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
        (lambda f: say(f, "Ada", c1="real"), ["--out", "v.xlsx"], "endings .parquet, .csv"),
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
