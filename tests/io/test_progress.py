"""Progress on a terminal, in a log, and nowhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rb.io import progress
from rb.io.progress import bar, bars, counter


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=120, force_terminal=terminal), out


def work(show: bool | Console | None) -> None:
    with bars(show) as several, several.task("reading [x]", 3, "files") as step:
        for done in range(4):
            step.at(done, "so far")
    with counter(show, "counting", 10, "maps") as tick:
        tick(4)
        tick(6)
    with bar(show, "fetching", 2_000_000, "bytes") as step:
        step.advance(1_500_000)


def test_a_bar_is_drawn_on_a_terminal() -> None:
    screen, out = console(True)
    work(screen)
    for words in ("reading [x]", "0/3 files", "counting", "0/10 maps", "fetching"):
        assert words in out.getvalue()


def test_without_a_terminal_there_are_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log, out = console(False)
    work(log)
    assert out.getvalue() == "", "short work says nothing"
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)
    work(log)
    lines = out.getvalue().splitlines()
    assert "reading [x]: 3/3 files so far" in lines
    assert "counting: 10/10 maps" in lines
    assert any(line.startswith("fetching: 1.5 MB/2.0 MB ") for line in lines)


@pytest.mark.parametrize("show", [False, None])
def test_nothing_is_shown_where_nobody_asked(
    show: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    work(show)
    assert capsys.readouterr() == ("", "")


def test_standard_error_is_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)
    work(True)
    out, err = capsys.readouterr()
    assert out == "" and "counting: 10/10 maps" in err
