"""`rb labels review` and `rb labels merge`, once their arguments are read."""

from __future__ import annotations

import getpass
import shlex
import socket
from pathlib import Path

from rich.table import Table

from rb.console import make_console
from rb.errors import UserError
from rb.labels.journal import VERDICTS, read_journals
from rb.labels.merge import Agreement, agreements, merge_verdicts, outcomes, write_verdicts
from rb.labels.review import Review
from rb.metrics.intervals import Estimate


def review(session: Review, port: int | None) -> None:
    """Serve the page until Ctrl-C; say where it is and how to reach it from elsewhere."""
    from rb.labels.server import HOST, ReviewServer

    console = make_console()
    with ReviewServer(session, port) as server:
        there = f"{getpass.getuser()}@{socket.gethostname()}"
        console.print(
            f"{len(session):,} candidates of {session.stamps.name}; verdicts go to "
            f"{session.folder}",
            markup=False,
        )
        # markup=False: a token may look like one of rich's tags.
        console.print(f"  open in a browser:       {server.url}", markup=False)
        console.print(
            f"  from another computer:   ssh -N -L {server.port}:{HOST}:{server.port} {there}"
            "   and then open the same address there",
            markup=False,
        )
        console.print("  Ctrl-C ends it; verdicts are on the disk as soon as they are given")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            console.print()
    _print_progress(session)


def _print_progress(session: Review) -> None:
    console = make_console()
    try:
        said = read_journals(session.folder)
    except UserError:
        console.print("no verdicts yet")
        return
    for name, table in said.items():
        counts = table["verdict"].value_counts()
        told = ", ".join(f"{counts.get(v, 0):,} {v}" for v in VERDICTS)
        console.print(f"{name}: {len(table):,} judged ({told})", markup=False)
    console.print(
        f"combine them with: rb labels merge {shlex.quote(str(session.folder))}", markup=False
    )


def merge(folder: Path, out: Path, at_least: int, unanimous: bool) -> None:
    """Combine the verdicts in `folder`, print how far inspectors agree, write the table."""
    console = make_console()
    said = read_journals(folder)
    table = merge_verdicts(said, at_least=at_least, unanimous=unanimous)
    write_verdicts(table, out)
    counts = table["verdict"]
    shown = Table(title="inspectors")
    for column in ("inspector", "judged", *VERDICTS, "label and p_real shown"):
        shown.add_column(column, justify="left" if column == "inspector" else "right")
    for name, journal in said.items():
        each = journal["verdict"].value_counts()
        shown.add_row(
            _plain(name),
            f"{len(journal):,}",
            *(f"{each.get(v, 0):,}" for v in VERDICTS),
            f"{int(journal['shown'].sum()):,}",
        )
    console.print(shown)
    if len(said) > 1:
        console.print(_agreement_table(agreements(said)))
    for one in outcomes(table):
        word, other = ("real", "bogus") if one.label == 0 else ("bogus", "real")
        console.print(
            f"of {one.n:,} labelled {word}: {_percent(one.overturned)} are {other}, "
            f"{_percent(one.disputed)} disputed or unsure"
        )
    console.print(
        f"{out}: {len(table):,} candidates, {int((counts == 0).sum()):,} real, "
        f"{int((counts == 1).sum()):,} bogus, {int(counts.isna().sum()):,} without a verdict",
        markup=False,
    )
    console.print(f"train with: python train.py data.labels={out}", markup=False)


def _agreement_table(found: list[Agreement]) -> Table:
    table = Table(title="agreement on candidates that all of them judged")
    for column in ("inspectors", "candidates", "said the same (95 %)", "kappa"):
        table.add_column(column, justify="left" if column == "inspectors" else "right")
    for one in found:
        # Of more than two the first column would be a list; their number says as much.
        who = " and ".join(map(_plain, one.inspectors))
        if len(one.inspectors) > 2:
            who = f"all {len(one.inspectors)} (Fleiss)"
        kappa = "–" if one.kappa != one.kappa else f"{one.kappa:.2f}"
        table.add_row(who, f"{one.n:,}", _percent(one.alike), kappa)
    return table


def _percent(share: Estimate) -> str:
    if not share.defined:
        return "–"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f}–{100 * share.high:.1f})"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
