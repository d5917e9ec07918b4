"""`rb reference`: keep labelled examples as a network sees them, to know what is unlike them."""

from __future__ import annotations

import argparse
from pathlib import Path

from rb.commands import Command
from rb.commands.arguments import add_runs, add_target, positive, whole


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, metavar="SET", help="stamp set with labels")
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="file of a model, or ID or name of a run"
    )
    add_target(parser, "reference.npz")
    add_runs(parser)
    parser.add_argument(
        "--examples", type=positive, default=2000, metavar="N", help="at most so many (2000)"
    )
    parser.add_argument("--seed", type=whole, default=1, help="which of them (1)")


def _reference(arguments: argparse.Namespace) -> int:
    from rb.io.files import check_target

    target: Path = arguments.out
    check_target(target, [".npz"], arguments.overwrite)
    import numpy as np

    from rb.stamps.stampset import StampSet

    stamp_set = StampSet.open(arguments.set)
    import rb
    from rb.scoring.load import embeddings_of, weights_digest_of
    from rb.uncertainty.strangeness import Reference

    scorer = rb.load(arguments.model, arguments.runs)
    rows = np.flatnonzero(np.isin(stamp_set.labels, (0, 1)))
    if len(rows) > arguments.examples:
        rows = np.random.default_rng(arguments.seed).choice(rows, arguments.examples, False)
    rows = np.sort(rows)
    column = next((c for c in ("kind", "bogus_kind") if c in stamp_set.column_names), None)
    kinds = np.array([""] * len(rows), dtype=str)
    if column:
        kinds = stamp_set.columns([column])[column].fillna("").astype(str).to_numpy()[rows]
    about = {
        "model": scorer.provenance.name,
        "weights_digest": weights_digest_of(scorer),
        "data": stamp_set.name,
        "data_digest": stamp_set.stamps_digest,
    }
    made = Reference.of(
        embeddings_of(scorer, stamp_set, rows), stamp_set.labels[rows], kinds, about
    )
    made.save(target)
    print(f"{target}: {len(rows):,} examples of {stamp_set.name} as {about['model']} sees them")
    return 0


COMMANDS = (
    Command(
        ("reference",),
        "keep labelled examples as a network sees them, to know what is unlike them",
        _add_arguments,
        _reference,
    ),
)
