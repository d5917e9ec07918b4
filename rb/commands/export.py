"""`rb export`: write a trained network as an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from rb.commands import Command
from rb.commands.arguments import add_runs, add_target, keep_apart
from rb.errors import UserError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="ID or name of a run, or a file of a model")
    add_target(parser, "model.onnx")
    parser.add_argument(
        "--stamps",
        type=Path,
        metavar="SET",
        help="stamp set that file and network have to agree on (simulated stamps)",
    )
    add_runs(parser)
    parser.add_argument(
        "--register", metavar="NAME[@ALIAS]",
        help="also register it with MLflow, as models:/NAME@ALIAS (ALIAS: current)",
    )  # fmt: skip


def _export(arguments: argparse.Namespace) -> int:
    target: Path = arguments.out
    from rb.io.files import check_target

    check_target(target, [".onnx"], arguments.overwrite)
    keep_apart({"--out": target}, arguments.model)
    name, _, alias = (arguments.register or "").partition("@")
    import rb
    from rb.scoring.export import export, real_stamps

    scorer = rb.load(arguments.model, arguments.runs)
    if name and scorer.provenance.run is None:
        raise UserError(f"--register: {arguments.model} is not of a run; register models of runs")
    some = None
    if arguments.stamps is not None and scorer.network is not None:
        some = real_stamps(arguments.stamps, scorer.inputs)
    about = export(scorer, target, some)
    size = target.stat().st_size
    checked = about["checked"]
    print(
        f"{target}: {scorer.provenance.name}, {about['n_parameters']:,} weights, {size / 1e6:.2f} "
        f"MB; on {checked['on']} stamps and hopeless ones p_real differs from the network by at "
        f"most {checked['largest_difference']:.1g}"
    )
    if name:
        _register(arguments, str(scorer.provenance.run), name, alias or "current")
    return 0


def _register(arguments: argparse.Namespace, run: str, name: str, alias: str) -> None:
    from rb.config import project_root
    from rb.tracking import TrackedRun, Tracking
    from rb.tracking.registry import register

    tracking = Tracking(None, arguments.runs or project_root() / "mlruns", "rb")
    found = TrackedRun(tracking, tracking.find(run).info.run_id)
    version = register(found, arguments.out, name, alias)
    print(f"models:/{name}@{alias} is version {version} in {tracking.uri}")


COMMANDS = (
    Command(
        ("export",),
        "write a trained network as an ONNX file, with its scaling inside",
        _add_arguments,
        _export,
    ),
)
