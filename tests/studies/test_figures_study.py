"""python evaluate.py study=figures: which stamps, and the page that shows them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from composing import composed, quiet, tracking_of, train_tiny
from toys import toy_stamps, write_set

from rb.errors import UserError
from rb.paper.values import FIGURE_1_IDS
from rb.stamps import StampSet, StampSetWriter
from rb.studies.examples import example_rows
from rb.studies.figures import sections
from rb.studies.run import run_study


def make(root, *overrides: str):
    config = composed("evaluate", "study=figures", f"paths.root={root}", *overrides)
    return sections(config, tracking_of(root), quiet())


def candidates(found) -> pd.DataFrame:
    return found[0].tables["The candidates"]


@pytest.fixture
def root(tmp_path):
    write_set(tmp_path / "set", 60)
    return tmp_path


def test_all_figures_of_four_candidates_without_a_network(root):
    found = make(root, "data=stamps", f"data.path={root / 'set'}")
    assert [s.key for s in found] == [
        "figure-1", "figure-2", "figure-3", "figure-12", "figure-13",
    ]  # fmt: skip
    assert all(len(s.pictures) == 1 for s in found)
    table = candidates(found)
    assert list(table.index) == ["A", "B", "C", "D"]
    assert [label.split()[0] for label in table["label"]] == ["bogus", "bogus", "real", "real"]
    # One faint and one bright of each class.
    assert table["SNR"].iloc[0] < table["SNR"].iloc[1]
    assert table["SNR"].iloc[2] < table["SNR"].iloc[3]
    columns = [axes.get_title() for axes in found[2].pictures[0].figure.axes]
    assert columns[0].endswith("bogus (label 1)")  # nothing predicts


def test_the_seed_and_the_user_choose(root):
    stamp_set = StampSet.open(root / "set")
    rows = np.arange(len(stamp_set))

    def chosen(ids=None, seed=1):
        return stamp_set.ids[example_rows(stamp_set, rows, ids, seed)].tolist()

    assert chosen(seed=3) == chosen(seed=3) != chosen(seed=4)
    assert chosen(["1007", 1004]) == [1007, 1004]
    with pytest.raises(UserError, match=r"no candidate 7; its ids are like 1000"):
        chosen([7, 1000])
    with pytest.raises(UserError, match=r"study.ids has 9 entries; give between 1 and 8"):
        chosen(list(range(9)))


def test_nothing_trained_and_no_data_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="nothing was trained yet.*data=simulated"):
        make(tmp_path)
    with pytest.raises(UserError, match="there is no run 'mine'"):
        make(tmp_path, "runs=mine")


@pytest.mark.slow
def test_a_trained_network_lends_its_stamps_scaling_and_verdict(root):
    train_tiny(root, "nodia", "model.inputs.scaling.srch=minmax", "split.test=0.3")
    found = make(root)
    pictures = {s.key: s.pictures[0] for s in found}
    assert "nodia: srch minmax, tmpl three_sigma" in pictures["figure-3"].caption
    titles = [axes.get_title() for axes in pictures["figure-3"].figure.axes if axes.get_title()]
    assert len(titles) == 8  # the network with the difference is there as configured
    predicted = [title for title in titles if "pred" in title]
    assert len(predicted) == 4
    assert all(re.search(r"label [01], pred [01]$", title) for title in predicted)
    assert "srch minmax" in pictures["figure-13"].caption
    # The examples are of the test subset.
    from rb.stamps.splits import make_split

    stamp_set = StampSet.open(root / "set")
    split = composed("train", "split.test=0.3")["split"]
    test = make_split(stamp_set.labels, stamp_set.groups, **split).test
    assert set(candidates(found)["id"]) <= {str(i) for i in stamp_set.ids[test]}


def des_set(path, ids, missing=()) -> StampSet:
    stamps, _ = toy_stamps(len(ids))
    stamps[list(missing), 0] = np.nan
    labels = [1, 1, 0, 0] * (len(ids) // 4)
    rows = pd.DataFrame({"id": ids, "label": labels, "group": "one"})
    with StampSetWriter(path, source="des", parameters={}, pixel_scale=0.263) as writer:
        writer.append(stamps, rows)
    return StampSet.open(path)


def test_the_papers_own_examples_come_first_where_a_des_set_has_them(tmp_path):
    others = [101, 102, 103, 104]
    everything = np.arange(8)
    whole = des_set(tmp_path / "whole", [*others, *FIGURE_1_IDS])
    assert tuple(whole.ids[example_rows(whole, everything, None, 1)]) == FIGURE_1_IDS
    # One of them lacks an image, so another of its class stands in.
    holed = des_set(tmp_path / "holed", [*others, *FIGURE_1_IDS], missing=[7])
    chosen = holed.ids[example_rows(holed, everything, None, 1)]
    assert tuple(chosen[:3]) == FIGURE_1_IDS[:3]
    assert chosen[3] in (103, 104)


def test_a_set_without_difference_or_labels_is_drawn_too(tmp_path):
    write_set(tmp_path / "pairs", 20, channels=("srch", "tmpl"))
    found = make(tmp_path, "data=stamps", f"data.path={tmp_path / 'pairs'}")
    words = [t.get_text() for a in found[0].pictures[0].figure.axes for t in a.texts]
    assert words.count("missing") == 4
    shown = found[2].pictures[0].figure
    assert not any("dia, 51x153" in t.get_text() for a in shown.axes for t in a.texts)
    stamps, _ = toy_stamps(6)
    rows = pd.DataFrame({"id": list("abcdef"), "label": [None] * 6, "group": "one"})
    with StampSetWriter(tmp_path / "dark", source="x", parameters={}, pixel_scale=1.0) as writer:
        writer.append(stamps, rows)
    table = candidates(make(tmp_path, "data=stamps", f"data.path={tmp_path / 'dark'}"))
    assert table["label"].tolist() == ["no label"] * 4
    assert table["id"].nunique() == 4


def test_the_study_leaves_a_page_pictures_and_tables(root):
    config = composed(
        "evaluate", "study=figures", "data=stamps", f"data.path={root / 'set'}",
        f"paths.root={root}", f"report={root / 'out'}", "title='Stamps & more'",
    )  # fmt: skip
    run_study(config, quiet())
    page = (root / "out" / "report.html").read_text()
    assert "<h1>Stamps &amp; more</h1>" in page
    assert page.count('src="data:image/') == 5
    assert "No stamp of this set has a label" not in page
    names = {file.name for file in (root / "out" / "figures").iterdir()}
    assert {
        "figure_1_triplets.pdf",
        "figure_1_triplets.png",
        "figure_13_after_scaling.pdf",
    } <= names
    table = pd.read_csv(root / "out" / "tables" / "figure-1_the_candidates.csv")
    assert len(table) == 4
