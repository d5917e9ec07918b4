from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from results_factory import run_result

from rb.errors import UserError
from rb.figures.style import save_figure
from rb.report.classification import standard_sections
from rb.report.page import render_report, write_report
from rb.report.sections import Picture, Section

N = 400


class Page(HTMLParser):
    """What a browser would find: ids, links, pictures, words, nesting."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if tag == "img":
            assert values["alt"]
            self.pictures.append(values["src"])
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.words += data


def stamps(rows: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (len(rows), 3, 21, 21)).astype(np.float32)
    images[:, :, 0, 0] = rows[:, None]
    return images


@pytest.fixture(scope="module")
def two():
    return [
        run_result("with", "dia", n=N, separation=3.0),
        run_result("without", "nodia", n=N, separation=1.2),
    ]


@pytest.fixture(scope="module")
def page(two):
    rng = np.random.default_rng(0)
    sections = standard_sections(
        two,
        read=stamps,
        properties={"magnitude": rng.uniform(20, 25, N), "SNR": rng.lognormal(2, 1, N)},
        examples=3,
    )
    text = render_report(
        "What it is worth",
        two,
        [
            *sections,
            Section(
                "tables",
                "More tables",
                tables={"Timing": pd.DataFrame({"batch_size": [1], "ms_per_stamp": [1.25]})},
            ),
        ],
        provenance={
            "commands": ["python train.py", "python evaluate.py"],
            "commit": "0123abc",
            "versions": {"rb": "0.1.0", "torch": "2.9"},
            "dirty": False,
        },
    )
    return text, sections, Page(text)


def test_sections_are_complete_and_in_order(page):
    _, sections, _ = page
    assert [s.key for s in sections] == [
        "roc", "confusion", "scores", "completeness", "training", "rescued",
        "examples-with", "examples-without",
    ]  # fmt: skip
    keys = [p.key for s in sections for p in s.pictures]
    assert len(set(keys)) == len(keys) == 16
    assert {"roc", "confusion", "calibration", "completeness", "curves", "rescued"} <= set(keys)


def test_page_is_one_whole_self_contained_document(page):
    text, sections, parsed = page
    assert text.startswith("<!doctype html>")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", text)
    assert "@import" not in text and "url(" not in text
    assert "script" not in parsed.tags and "link" not in parsed.tags
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert len(parsed.pictures) == sum(len(s.pictures) for s in sections)
    for source in parsed.pictures:
        kind, _, content = source.partition(";base64,")
        start = base64.b64decode(content)[:8]
        assert start[:4] == b"\x89PNG" if kind == "data:image/png" else start[:5] == b"<?xml"


def test_page_says_what_was_measured(page, two):
    _, _, parsed = page
    words = " ".join(parsed.words.split())
    metrics = two[0].metrics()
    for expected in (
        "The difference image is worth",
        f"{100 * metrics['accuracy'].value:.1f} ±",
        f"{metrics['auc'].value:.4f}",
        "McNemar's exact test on 400 shared stamps",
        "A search that keeps 95 % of the real candidates",
        "MDR at FPR 0.05",
        "CPU-hours",
        "45,908",
        "sha256:1234",
        "python train.py",
        "0123abc",
        "torch",
        "1.25",
        "False",
    ):
        assert expected in words, expected


def test_whatever_a_user_named_is_escaped(two):
    evil = '<script>alert("x")</script>{{ 7*7 }}&'
    named = [
        replace(r, name=evil + r.inputs, data_name=evil, data_digest=evil, history=None)
        for r in two
    ]
    sections = [
        *standard_sections(named, read=stamps, examples=1),
        Section(evil, evil, [evil], tables={evil: pd.DataFrame({evil: [evil]}, index=[evil])}),
        Section(evil, evil, tables={evil: pd.DataFrame()}),
    ]
    text = render_report(evil, named, sections, provenance={evil: [evil, {evil: 1}]})
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.words.count(evil) > 10


def test_many_runs_one_run_and_no_label(two):
    many = [replace(two[k % 2], name=f"run {k}", history=None) for k in range(9)]
    parsed = Page(render_report("many", many, standard_sections(many)))
    assert all(f"run {k}" in parsed.words for k in range(9))
    alone = Page(render_report("one", two[:1], standard_sections(two[:1])))
    assert "cannot be said" in alone.words and "McNemar" not in alone.words
    unknown = [replace(r, labels=np.full(N, -1)) for r in two]
    sections = standard_sections(unknown, read=stamps, properties={"SNR": np.ones(N)})
    assert [s.key for s in sections] == ["scores", "training"]
    blank = Page(render_report("none", unknown, sections))
    assert "No stamp of this set has a label" in blank.words and "400 without label" in blank.words
    assert "No run" not in render_report("nothing", [], standard_sections([]))


def test_one_class_only(two):
    real = [replace(r, labels=np.zeros(N), history=None) for r in two]
    sections = standard_sections(real, read=stamps, examples=1)
    assert "roc" not in [s.key for s in sections]
    assert "TNR" in Page(render_report("real", real, sections)).words


def test_small_sets_are_shown_whole():
    labels = np.array([0, 1, -1, 0, 1])
    runs = [
        run_result(name, name, n=5, labels=labels, ids=np.array(list("abcde")), history=None)
        for name in ("dia", "nodia")
    ]
    sections = standard_sections(runs, read=stamps)
    assert [s.key for s in sections] == ["stamps", "confusion"]
    titles = [axes.get_title() for axes in sections[0].pictures[0].figure.axes if axes.images]
    assert [title[0] for title in titles] == list("abcde")
    table = sections[0].tables["p_real of each stamp"]
    assert table["label"].tolist() == ["real", "bogus", "–", "real", "bogus"]
    np.testing.assert_array_equal(table["nodia"], runs[1].p_real)
    assert standard_sections(runs)[0].pictures == ()


def test_rescued_stamps_are_right_only_with_the_difference(two):
    section = next(s for s in standard_sections(two, read=stamps, examples=4) if s.key == "rescued")
    axes = [a for a in section.pictures[0].figure.axes if a.images]
    assert axes
    for panel in axes:
        row = int(panel.images[0].get_array()[0, 0])
        real = two[0].labels[row] == 0
        assert (two[0].p_real[row] >= 0.5) == real != (two[1].p_real[row] >= 0.5)
        word, scores = panel.get_title().split("   ")[1:]
        assert panel.get_title().startswith(str(two[0].ids[row]))
        assert word == ("real" if real else "bogus")
        assert scores == f"{two[0].p_real[row]:.2f} | {two[1].p_real[row]:.2f}"


def test_stamps_are_read_in_the_order_of_the_disk(two):
    asked: list[np.ndarray] = []

    def reader(rows: np.ndarray) -> np.ndarray:
        asked.append(np.asarray(rows))
        return stamps(np.asarray(rows))

    standard_sections(two, read=reader, examples=4)
    assert asked and all((np.diff(rows) >= 0).all() for rows in asked)
    assert max(len(rows) for rows in asked) <= 4


def test_writing_is_whole_or_not_at_all(tmp_path, two):
    path = tmp_path / "deep" / "report.html"
    write_report(path, "first", two)
    assert "first" in path.read_text(encoding="utf-8")

    class Broken:
        def savefig(self, *_args, **_kwargs):
            raise RuntimeError("no ink")

        def get_figwidth(self):
            return 3.0

        get_figheight = get_figwidth

    broken = Section("x", "x", pictures=[Picture("x", Broken(), "x")])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no ink"):
        write_report(path, "second", two, [broken])
    assert "first" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(UserError, match="cannot be written"):
        write_report(path / "inside a file.html", "third", two)


def test_pictures_are_saved_by_name(tmp_path, two):
    sections = [s for s in standard_sections(two) if s.key in ("roc", "confusion")]
    files = [
        file
        for section in sections
        for picture in section.pictures
        for file in save_figure(picture.figure, tmp_path / "figures" / picture.key, ("png",))
    ]
    assert sorted(f.name for f in files) == ["confusion.png", "roc.png", "tradeoff.png"]
    assert all(f.is_file() for f in files)
