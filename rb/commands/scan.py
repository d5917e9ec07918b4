"""`rb scan`: what is new in an image, without a difference image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.commands import Command
from rb.commands.arguments import add_runs, amount, keep_apart, positive, share
from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from rb.scan.images import ScanPair

_SMALLEST_TILE = 128


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "search", metavar="SEARCH",
        help="FITS image, FILE or FILE[EXTENSION], a folder of them, or a list of pairs: a CSV "
        "file with the columns search and template",
    )  # fmt: skip
    parser.add_argument(
        "template", metavar="TEMPLATE", nargs="?",
        help="the same sky before; of a folder, the folder with files of the same names",
    )  # fmt: skip
    parser.add_argument(
        "--out", default="finds.parquet", metavar="CATALOGUE",
        help=".parquet, .csv, .vot or .fits (finds.parquet); of several pairs, a folder",
    )  # fmt: skip
    parser.add_argument(
        "--model", default="scan", metavar="NAME",
        help="file of a dense network, or ID or name of a run (scan: the one of the package)",
    )  # fmt: skip
    parser.add_argument(
        "--judge", default="scan_judge", metavar="NAME",
        help="a model of search and template that looks at each find again, so that p_real becomes "
        "that of both (scan_judge: the one of the package); none: without one, faster",
    )  # fmt: skip
    add_runs(parser)
    parser.add_argument(
        "--threshold", type=share, metavar="P", help="least p_real of a find (the model's own)"
    )
    parser.add_argument("--regions", type=Path, metavar="FILE", help="circles for DS9 and Aladin")
    parser.add_argument("--png", type=Path, metavar="FILE", help="picture of the finds")
    parser.add_argument(
        "--saturation", type=amount("flux"), metavar="LEVEL",
        help="pixels from this level on are left out (card SATURATE)",
    )  # fmt: skip
    parser.add_argument(
        "--zero-point", type=amount("magnitudes"), metavar="MAG",
        help="magnitude of a flux of 1 in the search image (card MAGZERO or alike)",
    )  # fmt: skip
    parser.add_argument(
        "--gain", type=amount("electrons"), metavar="E", help="electrons per unit (card GAIN)"
    )
    parser.add_argument(
        "--psf", nargs=2, metavar=("SEARCH", "TEMPLATE"),
        help="FITS images of the PSFs, each with its peak in the middle (measured from stars)",
    )  # fmt: skip
    parser.add_argument(
        "--tile", type=positive, default=1024, metavar="PX", help="looked at at once (1024)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a catalogue")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _scan(arguments: argparse.Namespace) -> int:
    from rb.scan.images import split_place
    from rb.scan.jobs import jobs_of

    if arguments.tile < _SMALLEST_TILE:
        raise UserError(f"--tile is {arguments.tile}; give at least {_SMALLEST_TILE} px")
    jobs, single = jobs_of(
        arguments.search, arguments.template, Path(arguments.out), arguments.overwrite
    )
    for option in ("regions", "png", "psf"):
        if getattr(arguments, option) and not single:
            raise UserError(f"--{option} is of a single pair; scan the images one by one")
    if single:
        outputs = {"--out": jobs[0][2], "--regions": arguments.regions, "--png": arguments.png}
        images = [split_place(place)[0] for place in (*jobs[0][:2], *(arguments.psf or ()))]
        keep_apart(outputs, *images, arguments.model, arguments.judge)
    network, threshold, name = _network(arguments)
    judge = _judge(arguments)
    for search, template, out in jobs:
        table, scan = _one(arguments, network, judge, threshold, name, search, template, out)
        if single:
            _pictures(arguments, table, scan, search)
        print(f"{out}: {len(table)} finds with p_real >= {threshold:g} in {search}")
    return 0


def _network(arguments: argparse.Namespace) -> tuple[Any, float, str]:
    import rb
    from rb.models.dense import DenseNetwork
    from rb.scoring.export import network_scorer

    scorer = rb.load(arguments.model, arguments.runs)
    network = None if scorer.network is None else network_scorer(scorer).network
    if not isinstance(network, DenseNetwork):
        raise UserError(
            f"--model {arguments.model}: judges stamps, but does not search images; give a model "
            "that `train.py experiment=scan` has trained"
        )
    threshold = scorer.threshold if arguments.threshold is None else arguments.threshold
    if not 0 < threshold < 1:
        raise UserError(f"--threshold is {threshold:g}; give a number between 0 and 1")
    return network.eval(), threshold, scorer.provenance.name


def _judge(arguments: argparse.Namespace) -> Any:
    if arguments.judge == "none":
        return None
    import rb
    from rb.scan.judge import check_judge

    scorer = rb.load(arguments.judge, arguments.runs)
    check_judge(scorer)
    return scorer


def _one(
    arguments: argparse.Namespace,
    network: Any,
    judge: Any,
    threshold: float,
    name: str,
    search: str,
    template: str,
    out: Path,
) -> tuple[pd.DataFrame, ScanPair]:
    from rb.io.progress import bar
    from rb.scan.catalogue import find, write_catalogue
    from rb.scan.images import read_pair
    from rb.version import __version__

    scan = read_pair(
        search, template, arguments.saturation, arguments.zero_point, arguments.gain, arguments.psf
    )
    with bar(not arguments.quiet, "scanning", 1.0, "image") as step:
        table = find(network, scan, threshold, arguments.tile, step.at, judge)
    about = {
        "judge": judge.provenance.name if judge else "",
        "search": search,
        "template": template,
        "model": name,
        "threshold": f"{threshold:g}",
        "rb": __version__,
    }
    write_catalogue(table, out, about, scan.unit)
    return table, scan


def _pictures(
    arguments: argparse.Namespace, table: pd.DataFrame, scan: ScanPair, search: str
) -> None:
    from rb.scan.catalogue import write_regions

    if arguments.regions:
        write_regions(table, arguments.regions)
    if arguments.png:
        from rb.figures.scan import finds_figure
        from rb.io.files import written

        words = [f"p {p:.2f}  SNR {s:.0f}" for p, s in zip(table.p_real, table.snr, strict=True)]
        title = f"{Path(search).name}: {len(table)} finds"
        figure = finds_figure(
            scan.pair.search, scan.pair.template, table.x.to_numpy(), table.y.to_numpy(), words,
            title,
        )  # fmt: skip
        with written(arguments.png, "the picture") as temporary:
            figure.savefig(temporary, dpi=120, format="png")


COMMANDS = (
    Command(
        ("scan",),
        "find what is new in an image, without a difference image",
        _add_arguments,
        _scan,
    ),
)
