"""Searches of whole images beside difference imaging, on the sheet and off it.

    python train.py experiment=scan
    python train.py model=dia trainer=quick data.seed=7 data.detection.threshold=1.0 \
        data.detection.snr_min=3.0 data.detection.dipole_pixels=289 \
        data.detection.max_ellipticity=0.99 data.candidates=20000 split=grouped split.test=0.0 \
        name=dia_low
    python train.py data=finds data.seed=8 data.frames=1200 model=nodia_matched \
        model.init_from=NODIA.ckpt trainer=modern trainer.max_epochs=10 trainer.optimizer.lr=0.001 \
        trainer.scheduler.max_lr=0.001 split=grouped split.test=0.0 split.val=0.1 name=judge
    python benchmarks/scan.py scan judge dia_low dia nodia

`dia_low` is the bar: the paper's network on difference, search and template, trained on what
difference imaging with a low threshold finds in frames of the same seed. How much the judge
counts was chosen on frames of seed 7777 (`--part share`). The test frames are of seed 9999, those
off the sheet of seed 4711, which nothing else uses. Writes `benchmarks/results/scan_*.csv`, each
with its command and commit.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.ndimage import rotate

from rb.config import project_root
from rb.models.pretrained import published_file
from rb.scan.benchmark import IMAGING, PROPER, search_frame
from rb.scan.judge import SHARE, both
from rb.scan.tables import SearchTables
from rb.studies.scan import models_of, search_frames, survey_of
from rb.survey.camera.observation import Observation
from rb.tracking import Tracking, git_commit

ROOT = Path(__file__).resolve().parents[1]
BAR = "dia_low"
OFF_SEED, OFF_FRAMES, EMPTY_FRAMES = 4711, 30, 100
SHARE_SEED, SHARE_FRAMES, SHARES = 7777, 120, (0.0, 0.25, 0.5, 0.75, 1.0)
STARS = {"scene": {"star_density": 80.0}}
CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "shifted by .5 px rms": {"exposure": {"registration_px": 0.5}},
    "warped by .3 px rms": {"exposure": {"registration_warp_px": 0.3}},
    "template of worse seeing": {
        "exposure": {"search_fwhm_px": 3.3, "template_fwhm_px": 5.5, "fwhm_range_px": [2.8, 8.0]}
    },
    "crowded, 80 stars per square arcmin": STARS,
    "variable stars and AGN": {
        "events": {"variable_star_per_frame": 8.0, "agn_per_frame": 6.0},
        "scene": {"sn_per_frame": 0},
    },
    "asteroids": {"events": {"asteroid_per_frame": 12.0}, "scene": {"sn_per_frame": 0}},
    "nothing new": {"scene": {"sn_per_frame": 0}},
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="names of runs, or of networks of the package")
    parser.add_argument("--root", type=Path, default=ROOT, help="with mlruns/ and .cache/")
    parser.add_argument("--frames", type=int, help="(200)")
    parser.add_argument("--off-frames", type=int, default=OFF_FRAMES)
    parser.add_argument("--part", choices=("on", "off", "both", "spoiled", "share"), default="both")
    parser.add_argument(
        "--publish", metavar="NAME", help="make the first run this network of the package"
    )
    told = parser.parse_args()
    if told.publish:
        publish(told.runs[0], told.publish, Tracking(None, told.root / "mlruns", "rb"))
        return
    file = project_root() / "conf" / "study" / "scan.yaml"
    study = yaml.safe_load(file.read_text(encoding="utf-8")) | {"bar": BAR}
    study["frames"] = told.frames or study["frames"]
    models = models_of(told.runs, Tracking(None, told.root / "mlruns", "rb"))
    if told.part == "share":
        shares(told, study, models)
    if told.part == "spoiled":
        spoiled(told, study, models)
    if told.part in ("on", "both"):
        on_the_sheet(told, study, models)
    if told.part in ("off", "both"):
        off_the_sheet(told, study, models)


def publish(run: str, name: str, tracking: Tracking) -> None:
    """Put the best weights of a run, calibrated as the training left them, into the package."""
    target = published_file(name)
    if target is None:
        raise SystemExit(f"--publish {name}: the package has no network of that name")
    found = tracking.find(run)
    best = tracking.checkpoints(found.info.run_id) / "best.ckpt"
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    package = checkpoint["rb"]
    package["provenance"] |= {"name": target.stem, "run": None, "licence": "BSD-3-Clause"}
    torch.save({"state_dict": checkpoint["state_dict"], "rb": package}, target)
    print(f"{target}: {target.stat().st_size:,} bytes")


def on_the_sheet(told: argparse.Namespace, study: dict[str, Any], models: Any) -> None:
    """The study's own tables."""
    dense, *_ = models
    survey = survey_of({}, study)
    parts = search_frames(told.root / ".cache", survey, study["frames"], *models)
    tables = SearchTables(parts, study, survey)
    names = tables.names
    kinds = tables.by_kind(names, 1.0)
    found = {
        "completeness": tables.by_rate(names),
        "minus_bar": tables.against(names, BAR),
        **{f"by_{what}".lower().replace(" ", "_"): table for what, table in kinds.items()},
        "rank": tables.rank(names),
        "purity": tables.purity(names),
        "threshold": tables.at_threshold(dict.fromkeys(searches(tables, dense), 0.5)),
    }
    about = f"{len(tables.told)} supernovae of true SNR >= 5 in {len(parts)} frames of seed 9999"
    for name, table in found.items():
        write(f"scan_{name}", table.reset_index(names="search"), about)
    write("scan_photometry", tables.photometry([*dense, IMAGING]), about)
    write("scan_cost", tables.cost(), about)


def spoiled(told: argparse.Namespace, study: dict[str, Any], models: Any) -> None:
    """Pairs that nobody prepared: turned against each other, and with holes."""
    dense, stamps, _ = models
    judges = {name: scorer for name, scorer in stamps.items() if scorer.inputs.kind == "nodia"}
    survey = survey_of({}, study | {"seed": OFF_SEED})
    rows = []
    torch.set_num_threads(1)
    for case, spoil in SPOILED.items():
        parts = [
            search_frame(survey, dense, judges, number, spoil) for number in range(told.off_frames)
        ]
        tables = SearchTables(parts, study, survey)
        points = tables.at_threshold(dict.fromkeys(searches(tables, dense), 0.5))
        for name in points.index:
            row = {"case": case, "search": name, "events": len(tables.told)}
            row["completeness at 1 a frame"] = float(tables.scores(name, (1.0,))[0, 0])
            rows.append(row | points.loc[name].drop("p_real").to_dict())
        print(pd.DataFrame(rows).tail(len(points)).to_string(index=False), flush=True)
    about = f"{told.off_frames} frames of seed {OFF_SEED}; events: true SNR >= 5 on unmasked pixels"
    write("scan_spoiled", pd.DataFrame(rows).round(3), about)


def turned(degrees: float) -> Callable[[Observation], Observation]:
    """The template turned about its middle, through cubic splines; its corners stay empty."""

    def spoil(observation: Observation) -> Observation:
        template = observation.template
        turn = partial(rotate, angle=degrees, reshape=False, cval=np.nan)
        image = turn(template.image, order=3)
        masked = turn(template.masked.astype(np.float32), order=1)
        empty = ~np.isfinite(image) | ~(masked < 0.01)
        return replace(observation, template=replace(template, image=image, masked=empty))

    return spoil


def holes(observation: Observation) -> Observation:
    """A tenth of the template is missing, in blocks of 32 px."""
    template = observation.template
    rng = np.random.default_rng(observation.number)
    height, width = template.image.shape
    lacking = np.kron(rng.random((height // 32, width // 32)) < 0.1, np.ones((32, 32), bool))
    image = np.where(lacking, np.nan, template.image).astype(np.float32)
    masked = template.masked | lacking
    return replace(observation, template=replace(template, image=image, masked=masked))


SPOILED: dict[str, Callable[[Observation], Observation]] = {
    "as it is": lambda observation: observation,
    "template turned by 0.1 degrees": turned(0.1),
    "template turned by 0.3 degrees": turned(0.3),
    "a tenth of the template missing": holes,
}


def searches(tables: SearchTables, dense: dict[str, Any]) -> list[str]:
    """Names of searches without difference imaging, with and without a second look."""
    return [name for name in tables.names if name.split(" + ")[0] in dense]


def off_the_sheet(told: argparse.Namespace, study: dict[str, Any], models: Any) -> None:
    """What the networks were not trained for."""
    dense, *_ = models
    rows = []
    for case, changes in CASES.items():
        empty = case == "nothing new"
        n = EMPTY_FRAMES if empty else told.off_frames
        survey = survey_of(changes, study | {"seed": OFF_SEED})
        parts = search_frames(told.root / ".cache", survey, n, *models)
        tables = SearchTables(parts, study, survey)
        points = tables.at_threshold(dict.fromkeys(searches(tables, dense), 0.5))
        names = [name for name in tables.names if name not in (IMAGING, PROPER)]
        for name in names:
            row: dict[str, Any] = {"case": case, "search": name, "frames": n}
            row["events"] = len(tables.told)
            if not empty:
                row["completeness at 1 a frame"] = float(tables.scores(name, (1.0,))[0, 0])
            if name in points.index:
                row |= points.loc[name].drop("p_real").to_dict()
            rows.append(row)
        print(pd.DataFrame(rows).tail(len(names)).to_string(index=False), flush=True)
    about = f"frames of seed {OFF_SEED}; events: true SNR >= 5 on unmasked pixels"
    write("scan_off_the_sheet", pd.DataFrame(rows).round(3), about)


def shares(told: argparse.Namespace, study: dict[str, Any], models: Any) -> None:
    """How much a judge of a search's finds is to count: what `SHARE` was chosen by."""
    dense, stamps, _ = models
    survey = survey_of({}, study | {"seed": SHARE_SEED})
    parts = search_frames(told.root / ".cache", survey, SHARE_FRAMES, *models)
    mixed = []
    for part in parts:
        by_search = dict(list(part.rows.groupby("search", sort=False)))
        rows = []
        for name, judge in itertools.product(dense, stamps):
            together = by_search.get(f"{name} + {judge}")
            if together is None:  # it looks at difference images, or nothing was found
                continue
            alone = by_search[name]["score"].to_numpy()[: len(together)]
            second = (together["score"].to_numpy() - (1 - SHARE) * alone) / SHARE
            for share in SHARES:
                label = f"{name} + {share:g} {judge}"
                rows.append(together.assign(search=label, score=both(alone, second, share)))
        mixed.append(part._replace(rows=pd.concat(rows)))
    tables = SearchTables(mixed, study, survey)
    about = f"{len(tables.told)} supernovae in {len(parts)} frames of seed {SHARE_SEED}"
    write("scan_share", tables.by_rate(tables.names).reset_index(names="search"), about)


def _words(given: list[str]) -> list[str]:
    """A command line without the place where it ran."""
    if "--root" not in given:
        return given
    at = given.index("--root")
    return given[:at] + given[at + 2 :]


def write(name: str, table: pd.DataFrame, about: str) -> None:
    """Keep a table with what made it."""
    print(table.to_string(index=False), "\n", flush=True)
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *_words(sys.argv[1:])])
    head = f"# {command}, at commit {(git_commit() or 'unknown')[:10]}\n# {about}\n"
    path = ROOT / "benchmarks" / "results" / f"{name}.csv"
    path.write_text(head + table.to_csv(index=False), encoding="utf-8")


if __name__ == "__main__":
    main()
