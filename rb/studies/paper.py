"""The report of the whole paper, from the runs in MLflow: nothing is trained.

Each part says what the paper shows, the paper's number, ours, and the command that made it; a
part whose runs do not exist says which command makes them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.paper.parts import Line, Part
from rb.paper.runs import SIZES, Experiment, PaperRuns
from rb.paper.table1 import table1_part
from rb.paper.table10 import table10_part
from rb.paper.values import PAPER
from rb.paper.variants import (
    backbones_part,
    folds_part,
    longer_part,
    richer_part,
    scalings_part,
    stacking_part,
)
from rb.report.page import COMMAND
from rb.report.sections import Picture, Section
from rb.tracking import Tracking

_STUDIES = {
    "figures": ("Data figures", "Figures 1 to 3, 12 and 13: the stamps and their scaling."),
    "architectures": ("The networks", "Figure 4 and Tables 2 to 9: the networks, layer by layer."),
    "saliency": (
        "Where the networks look",
        "Figures 8 to 11 and 15 to 22: saliency maps and the importance of each image.",
    ),
    "cost": ("Cost", "Section 5.2: what training, prediction and difference imaging cost."),
    "labels": ("Suspicious labels", "Appendix D: about 3 % of the bogus labels are wrong."),
}
_SHORT = {"saliency": "Saliency", "cost": "Cost", "labels": "Labels"}
"""What their sections' titles begin with, among those of the others."""
_FIRST = ("figures", "architectures")  # before the results, as in the paper

_PARTS: tuple[Callable[[PaperRuns], Part], ...] = (
    stacking_part,
    folds_part,
    table10_part,
    richer_part,
    longer_part,
    backbones_part,
    scalings_part,
)


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """All tables and figures of the paper that there are runs for.

    Parameters
    ----------
    config : dict
        As composed from ``conf/evaluate.yaml`` with ``conf/study/paper.yaml``.
    tracking : Tracking
        Where the runs are. Test results that are missing are measured and kept with the runs.
    console : Console
        Where progress goes.

    Raises
    ------
    UserError
        If a setting is wrong, or `runs` names what does not exist.
    """
    settings = config["study"]
    _check(settings)
    paper_runs = PaperRuns(config, tracking, console)
    pair = paper_runs.pair()
    parts: list[Part] = []
    for name in settings["studies"]:
        if name in _FIRST:
            parts.append(_study(name, paper_runs, pair, tracking, console))
    parts.append(table1_part(paper_runs, pair))
    for part in _PARTS:
        console.print(f"{part.__name__.removesuffix('_part')} …")
        parts.append(part(paper_runs))
    for name in settings["studies"]:
        if name not in _FIRST:
            parts.append(_study(name, paper_runs, pair, tracking, console))
    found = [section for part in parts for section in part.sections]
    return _distinct([_overview(parts), *found])


def _check(settings: Mapping[str, Any]) -> None:
    if settings["size"] not in (None, *SIZES):
        raise UserError(f"study.size is '{settings['size']}'; choose {', '.join(SIZES)} or null")
    for name in settings["studies"]:
        if name not in _STUDIES:
            raise UserError(f"study.studies: there is no '{name}'; choose of {', '.join(_STUDIES)}")


def _overview(parts: list[Part]) -> Section:
    lines: list[Line] = [line for part in parts for line in part.lines]
    table = pd.DataFrame(
        {
            "paper, DES": [line.paper for line in lines],
            "here": [line.ours for line in lines],
            "here: data, test candidates": [line.data or "–" for line in lines],
        },
        index=pd.Index([line.what for line in lines], name="what"),
    )
    return Section(
        "overview",
        "The paper's numbers and ours",
        [
            f"Everything that {PAPER} shows, made again. The paper's numbers are those of DES; "
            "ours are of the data named beside them, and only where both are DES can they be "
            "expected to agree. ± of ours are intervals of the test set; of cross-validation, "
            "and of the paper, standard deviations."
        ],
        tables={"At a glance": table},
    )


def _study(
    name: str,
    paper_runs: PaperRuns,
    pair: Experiment | None,
    tracking: Tracking,
    console: Console,
) -> Part:
    """The sections of another study, made of the two networks of Table 1."""
    title, says = _STUDIES[name]
    config = paper_runs.config
    runs: Any = [job.id for job in pair.jobs] if pair else config["runs"]
    if name == "labels":
        folds = paper_runs.experiment("folds")
        if folds is None:
            texts = [
                says,
                "Not made yet: it takes networks that have not seen the candidates.",
                f"{COMMAND}python train.py experiment=folds size=small",
                f"{COMMAND}python evaluate.py study=labels",
            ]
            return Part([Section(name, title, texts)])
        runs = [job.id for job in folds.jobs]
    command = f"{COMMAND}python evaluate.py study={name}"
    settings = config["study"][name]
    console.print(f"{name} …")
    if name == "labels":
        # The user's own table of suspects, which verdicts may belong to, is left alone.
        settings = dict(settings) | {"table": f"{config['report']}/data/suspects.parquet"}
    given = dict(config) | {"study": settings, "runs": runs, "subset": None, "threshold": None}
    try:
        found = importlib.import_module(f"rb.studies.{name}").sections(given, tracking, console)
    except UserError as error:
        reason = str(error).replace("study.", f"study.{name}.")  # where the setting is here
        return Part([Section(name, title, [says, f"Not made: {reason}", command])])
    return Part(
        [
            replace(
                section,
                key=section.key if name == "figures" else f"{name}-{section.key}",
                title=": ".join([_SHORT[name], _lower(section.title)])
                if name in _SHORT
                else section.title,
                paragraphs=[*section.paragraphs, command],
            )
            for section in found
        ]
    )


def _lower(title: str) -> str:
    """`title` to stand after a colon: names and abbreviations keep their capitals."""
    first = title.split(" ")[0]
    return title if first[1:].lower() != first[1:] else title[:1].lower() + title[1:]


def _distinct(sections: list[Section]) -> list[Section]:
    """The sections with pictures that share no file name."""
    taken: set[str] = set()
    found = []
    for section in sections:
        pictures: list[Picture] = []
        for picture in section.pictures:
            key = picture.key if picture.key not in taken else f"{section.key}_{picture.key}"
            taken.add(key)
            pictures.append(replace(picture, key=key))
        found.append(replace(section, pictures=pictures))
    return found
