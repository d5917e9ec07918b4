"""`rb scan`: what is new in an image, without a difference image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.commands import Command
from rb.commands.arguments import add_runs, amount, positive, share
from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from rb.scan.images import ScanPair

_SMALLEST_TILE = 128


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "search", metavar="SEARCH", help="FITS image, FILE or FILE[EXTENSION], or a folder of them"
    )
    parser.add_argument(
        "template", metavar="TEMPLATE",
        help="the same sky before; of a folder, the folder with files of the same names",
    )  # fmt: skip
    parser.add_argument(
        "--out", default="finds.parquet", metavar="CATALOGUE",
        help=".parquet, .csv, .vot or .fits (finds.parquet); of a folder, a folder",
    )  # fmt: skip
    parser.add_argument(
        "--model", default="scan", metavar="NAME",
        help="file of a dense network, or ID or name of a run (scan: the one of the package)",
    )  # fmt: skip
    parser.add_argument(
        "--judge", metavar="NAME",
        help="a model of search and template, such as nodia, that looks at each find again: "
        "p_real becomes that of both",
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
        "--tile", type=positive, default=1024, metavar="PX", help="looked at at once (1024)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a catalogue")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _scan(arguments: argparse.Namespace) -> int:
    from rb.scan.catalogue import check_catalogue

    if arguments.tile < _SMALLEST_TILE:
        raise UserError(f"--tile is {arguments.tile}; give at least {_SMALLEST_TILE} px")
    jobs = _jobs(arguments)
    for _, _, out in jobs:
        check_catalogue(out)
    network, threshold, name = _network(arguments)
    judge = _judge(arguments)
    for search, template, out in jobs:
        table, scan = _one(arguments, network, judge, threshold, name, search, template, out)
        if len(jobs) == 1:
            _pictures(arguments, table, scan, search)
        print(f"{out}: {len(table)} finds with p_real >= {threshold:g} in {search}")
    return 0


def _jobs(arguments: argparse.Namespace) -> list[tuple[str, str, Path]]:
    """Search image, template and catalogue of each pair that is still to be scanned."""
    search, template, out = (Path(p) for p in (arguments.search, arguments.template, arguments.out))
    if not search.is_dir():
        if out.exists() and not arguments.overwrite:
            raise UserError(f"{out}: exists already; choose another name or --overwrite")
        return [(arguments.search, arguments.template, out)]
    if not template.is_dir():
        raise UserError(f"{template}: {search} is a folder, so give a folder of templates")
    if arguments.regions or arguments.png:
        raise UserError("--regions and --png are of a single pair; scan the images one by one")
    names = sorted(p.name for p in search.iterdir() if ".fit" in p.name and p.is_file())
    if not names:
        raise UserError(f"{search}: holds no FITS files")
    missing = [name for name in names if not (template / name).exists()]
    if missing:
        raise UserError(f"{template}: has no {missing[0]} ({len(missing)} templates are missing)")
    if out.suffix:
        raise UserError(f"{out}: {search} is a folder, so give --out a folder")
    out.mkdir(parents=True, exist_ok=True)
    jobs = [
        (str(search / name), str(template / name), out / f"{name.split('.fit')[0]}.parquet")
        for name in names
    ]
    # A catalogue is there when it is whole, so that a scan that was stopped goes on.
    todo = [job for job in jobs if arguments.overwrite or not job[2].exists()]
    print(f"{search}: {len(jobs)} pairs, {len(jobs) - len(todo)} of them scanned before")
    return todo


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
    if arguments.judge is None:
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

    scan = read_pair(search, template, arguments.saturation, arguments.zero_point, arguments.gain)
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
        from rb.io.files import aside

        words = [f"p {p:.2f}  SNR {s:.0f}" for p, s in zip(table.p_real, table.snr, strict=True)]
        title = f"{Path(search).name}: {len(table)} finds"
        figure = finds_figure(
            scan.pair.search, scan.pair.template, table.x.to_numpy(), table.y.to_numpy(), words,
            title,
        )  # fmt: skip
        with aside(arguments.png) as temporary:
            figure.savefig(temporary, dpi=120, format="png")


COMMANDS = (
    Command(
        ("scan",),
        "find what is new in an image, without a difference image",
        _add_arguments,
        _scan,
    ),
)
