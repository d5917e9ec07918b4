"""`rb labels review` and `rb labels merge`: judge suspicious labels, combine the verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rb.commands import Command
from rb.commands.arguments import port, positive, whole
from rb.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from rb.labels.merge import Agreement
    from rb.labels.review import Review
    from rb.metrics.intervals import Estimate


def _review_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suspects", type=Path, help="table of python evaluate.py study=labels")
    parser.add_argument(
        "--out", type=Path, default=Path("review"), metavar="FOLDER", help="for verdicts (review)"
    )
    parser.add_argument(
        "--set", type=Path, metavar="FOLDER", help="the stamp set (the one the table names)"
    )
    parser.add_argument("--inspector", metavar="NAME", help="only this one (ask in the page)")
    parser.add_argument("--top", type=positive, metavar="N", help="only the first N suspects")
    parser.add_argument(
        "--given", choices=("real", "bogus"), help="only candidates labelled so, e.g. bogus"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--all", action="store_true", help="all ranked candidates, not suspects only"
    )
    which.add_argument(
        "--random",
        type=positive,
        metavar="N",
        help="N candidates at random instead of suspects, to measure the share of wrong labels",
    )
    parser.add_argument("--seed", type=whole, default=0, help="of --random (0)")
    parser.add_argument(
        "--facts", metavar="A,B", help="columns of the catalogue to show (magnitude, SNR, band, …)"
    )
    parser.add_argument("--port", type=port, help="port on this machine (8642 or one of the next)")


def _review(arguments: argparse.Namespace) -> int:
    from rb.labels.review import Choice, Review

    given = None if arguments.given is None else ("real", "bogus").index(arguments.given)
    facts = arguments.facts
    session = Review(
        arguments.suspects,
        arguments.out,
        stamps=arguments.set,
        choice=Choice(arguments.top, arguments.all, given, arguments.random, arguments.seed),
        inspector=arguments.inspector,
        facts=None if facts is None else [name.strip() for name in facts.split(",")],
    )
    _serve(session, arguments.port)
    return 0


def _serve(session: Review, port: int | None) -> None:
    """Serve the page until Ctrl-C; say where it is and how to reach it from elsewhere."""
    import getpass
    import socket

    from rb.console import make_console
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
    import shlex

    from rb.console import make_console
    from rb.labels.journal import VERDICTS, read_journals

    console = make_console()
    try:
        journals = read_journals(session.folder)
    except UserError:
        console.print("no verdicts yet")
        return
    for name, table in journals.items():
        counts = table["verdict"].value_counts()
        by_verdict = ", ".join(f"{counts.get(v, 0):,} {v}" for v in VERDICTS)
        console.print(f"{name}: {len(table):,} judged ({by_verdict})", markup=False)
    console.print(
        f"combine them with: rb labels merge {shlex.quote(str(session.folder))}", markup=False
    )


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of rb labels review")
    parser.add_argument(
        "--out", type=Path, default=Path("verdicts.parquet"), metavar="TABLE",
        help="table to write, .parquet or .csv (verdicts.parquet)",
    )  # fmt: skip
    parser.add_argument(
        "--at-least", type=positive, default=1, metavar="N",
        help="no verdict on candidates that fewer inspectors looked at (1)",
    )  # fmt: skip
    parser.add_argument(
        "--unanimous", action="store_true", help="no verdict where some say real and some bogus"
    )


def _merge(arguments: argparse.Namespace) -> int:
    """Combine the verdicts, print how far inspectors agree, write the table."""
    from rich.markup import escape
    from rich.table import Table

    from rb.console import make_console
    from rb.labels.journal import VERDICTS, read_journals
    from rb.labels.merge import agreements, merge_verdicts, outcomes, write_verdicts

    console, out = make_console(), arguments.out
    journals = read_journals(arguments.folder)
    table = merge_verdicts(journals, at_least=arguments.at_least, unanimous=arguments.unanimous)
    write_verdicts(table, out)
    counts = table["verdict"]
    shown = Table(title="inspectors")
    for column in ("inspector", "judged", *VERDICTS, "label and p_real shown"):
        shown.add_column(column, justify="left" if column == "inspector" else "right")
    for name, journal in journals.items():
        each = journal["verdict"].value_counts()
        shown.add_row(
            escape(name),
            f"{len(journal):,}",
            *(f"{each.get(v, 0):,}" for v in VERDICTS),
            f"{int(journal['shown'].sum()):,}",
        )
    console.print(shown)
    if len(journals) > 1:
        console.print(_agreement_table(agreements(journals)))
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
    return 0


def _agreement_table(found: list[Agreement]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="agreement on candidates that all of them judged")
    for column in ("inspectors", "candidates", "said the same (95 %)", "kappa"):
        table.add_column(column, justify="left" if column == "inspectors" else "right")
    for one in found:
        # Of more than two the first column would be a list; their number says as much.
        who = " and ".join(map(escape, one.inspectors))
        if len(one.inspectors) > 2:
            who = f"all {len(one.inspectors)} (Fleiss)"
        kappa = "–" if one.kappa != one.kappa else f"{one.kappa:.2f}"
        table.add_row(who, f"{one.n:,}", _percent(one.alike), kappa)
    return table


def _percent(share: Estimate) -> str:
    if not share.defined:
        return "–"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f}–{100 * share.high:.1f})"


_FAMILY = "wrong labels: look at suspects, combine verdicts (docs/labels.md)"
COMMANDS = (
    Command(
        ("labels", "review"),
        "look at suspicious labels in a browser and judge them",
        _review_arguments,
        _review,
        _FAMILY,
    ),
    Command(
        ("labels", "merge"),
        "combine the verdicts of several inspectors into a table for data.labels",
        _merge_arguments,
        _merge,
        _FAMILY,
    ),
)
