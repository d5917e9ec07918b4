"""What an evaluation leaves behind: scores, figures, tables and the report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rb.errors import UserError
from rb.evaluation.results import RunResult, unique_names
from rb.evaluation.scored_run import ScoredRun
from rb.evaluation.survey_scores import SURVEY_SCORES, survey_scores
from rb.report.comparison import comparison_table
from rb.report.forest_sections import forest_sections
from rb.report.page import write_report
from rb.report.sections import save_pictures, standard_sections
from rb.report.survey_scores import survey_score_sections
from rb.stamps import StampSet
from rb.tracking import TrackedRun, git_commit

# What making and searching a difference image takes; rendering the sky is the simulation's.
_IMAGING_STEPS = ("psf_matching", "subtraction", "detection")


def new_folder(reports: Path) -> Path:
    """A folder for one evaluation, named after the time, that does not exist yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder, number = reports / stamp, 1
    while folder.exists():
        number += 1
        folder = reports / f"{stamp}-{number}"
    try:
        reports.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{reports}: {error.strerror}; give report=FOLDER elsewhere") from error
    return folder


def write_results(
    folder: Path,
    evaluated: list[ScoredRun],
    results: list[RunResult],
    run: TrackedRun,
    config: Mapping[str, Any],
) -> None:
    """Scores, figures and the report, on disk and with the evaluation's own run."""
    confidence = config["confidence"]
    for number, (name, result) in enumerate(zip(unique_names(results), results, strict=True), 1):
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        result.save(folder / "scores" / f"{number:02d}_{safe}")
    comparison_table(results, confidence).to_csv(folder / "comparison.csv")
    first = evaluated[0]
    sections = standard_sections(
        results,
        # A feature table has candidates, but no stamps to show.
        stamps=(lambda wanted: np.asarray(first.stamp_set.stamps[first.rows[wanted]]))
        if first.stamp_set.channels
        else None,
        properties=_properties(first),
        examples=config["examples"],
    )
    scores = survey_scores(first.stamp_set.columns(SURVEY_SCORES, required=False), first.rows)
    sections += survey_score_sections([e.result for e in evaluated], scores)
    sections += forest_sections(evaluated, run.tracking)
    save_pictures(sections, folder / "figures")
    tables = {
        f"Time of a prediction by {e.result.name}, ms per stamp": e.timing
        for e in evaluated
        if e.timing is not None
    }
    cost = difference_imaging_cost(first.stamp_set)
    if cost is not None:
        tables["CPU time of the difference images of this survey"] = cost
    title = config["title"] or _title(results)
    write_report(
        folder / "report.html",
        title,
        results,
        sections,
        tables=tables,
        provenance=_provenance(evaluated),
        confidence=confidence,
    )
    for file in (folder / "report.html", folder / "comparison.csv"):
        run.log_file(file)
    for file in sorted((folder / "figures").glob("*")):
        run.log_file(file, "figures")


def _title(results: list[RunResult]) -> str:
    subset = results[0].subset
    what = "all candidates" if subset == "all" else f"{subset} set"
    return f"{' and '.join(unique_names(results)[:4])} on {results[0].data_name}, {what}"


def _properties(one: ScoredRun) -> dict[str, np.ndarray]:
    """Magnitude and SNR of the evaluated candidates, where the source knows them."""
    known = {"magnitude": "mag", "SNR": "snr"}
    catalogue = one.stamp_set.columns(list(known.values()), required=False)
    return {
        label: catalogue[column].to_numpy(dtype=float)[one.rows]
        for label, column in known.items()
        if column in catalogue and catalogue[column].notna().any()
    }


def difference_imaging_cost(stamp_set: StampSet) -> pd.DataFrame | None:
    """CPU seconds per candidate and per frame that DIA took, where the source measured them.

    The other side of the paper's section 5.2: what a network without the difference image
    would spare. None for sets without that measurement.
    """
    if "frames" not in stamp_set.meta.get("tables", []):
        return None
    frames = stamp_set.table("frames")
    steps = {s: f"cpu_{s}_s" for s in _IMAGING_STEPS if f"cpu_{s}_s" in frames}
    if not steps:
        return None
    costs = pd.DataFrame(
        {
            "step": [name.replace("_", " ") for name in steps],
            "CPU s per frame": [frames[column].mean() for column in steps.values()],
            "CPU ms per candidate": [
                1000 * frames[column].sum() / len(stamp_set) for column in steps.values()
            ],
        }
    )
    total = {"step": "together"} | costs.drop(columns="step").sum().to_dict()
    return pd.concat([costs, pd.DataFrame([total])], ignore_index=True)


def _provenance(evaluated: list[ScoredRun]) -> dict[str, Any]:
    runs = {}
    for one in evaluated:
        facts = one.candidate.model.facts
        trained = facts.get("training_set") or {}
        runs[one.result.name] = {
            "run": one.candidate.run_id or "a file",
            "seed": (one.candidate.config or {}).get("seed", "unknown"),
            "training set": _named(trained.get("name"), trained.get("digest")),
            "evaluated on": _named(one.stamp_set.name, one.stamp_set.digest, one.result.subset),
        }
    return {
        "commands": _commands(evaluated),
        **code_and_machine(),
        "runs": runs,
    }


def code_and_machine() -> dict[str, str]:
    """Commit, versions and machine: what every report says of how it was made."""
    import platform

    import lightning

    from rb import __version__

    return {
        "commit": git_commit() or "unknown",
        "versions": (
            f"rb {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"lightning {lightning.__version__}"
        ),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def this_command() -> str:
    """The command line that runs now, to be copied."""
    return "python " + shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _commands(evaluated: list[ScoredRun]) -> list[str]:
    trained = [c for c in (e.candidate.command for e in evaluated) if c]
    return [*dict.fromkeys(trained), this_command()]


def _named(*facts: str | None) -> str:
    """Name, shortened digest and subset in a line."""
    return ", ".join(str(f)[:16] if i == 1 else str(f) for i, f in enumerate(facts) if f)
