"""What training, prediction and difference imaging cost: Table 1 and section 5.2 of the paper.

Everything is measured where it ran; nothing is said of energy, which no counter here measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from rb.evaluation.choose import ChosenModel, select
from rb.evaluation.cost import (
    Imaging,
    Machine,
    checked_batches,
    cpu_per_stamp,
    extrapolated_hours,
    imaging_of,
    tiles_per_plane,
    timed_rows,
)
from rb.figures.studies.cost import plane_figure, prediction_figure
from rb.paper.values import (
    BATCH_SIZE,
    IMAGING_HOURS,
    N_TRAIN,
    NETWORKS,
    PSF_MATCHING_SHARE,
    STAMP_SIDE,
    TABLE_1,
)
from rb.report.sections import Picture, Section
from rb.report.terminal import frame_table
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.tracking import TrackedRun, Tracking


@dataclass(frozen=True)
class _Timed:
    """A network, and how long it takes for stamps of the set that it was timed on."""

    name: str
    side: int
    timing: pd.DataFrame

    @property
    def cpu_s(self) -> float:
        """CPU seconds of a stamp, reading and scaling included."""
        return cpu_per_stamp(self.timing)


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """Training, prediction, and difference imaging against prediction.

    Parameters
    ----------
    config : dict
        As composed from ``conf/evaluate.yaml`` with ``study=cost``.
    tracking : Tracking
        Where the runs are; times of a prediction are kept with them.
    console : Console
        Where the tables go.

    Raises
    ------
    UserError
        If no run is found, or a setting of the study makes no sense.
    """
    study = config["study"]
    machine = Machine(**study["machine"])
    batches = checked_batches(study["batch_sizes"])
    chosen = select(tracking, config["runs"])
    names = _names(chosen)
    found = [_training(chosen, names, machine)]
    opened: dict[str, StampSet] = {}
    timed = []
    for name, one in zip(names, chosen, strict=True):
        stamp_set = _stamps_for(one, config, opened)
        if stamp_set is None or one.model.network is None:
            console.print(f"{name}: no network with stamps at hand; not timed")
            continue
        timing = one.model.timing(
            stamp_set,
            timed_rows(len(stamp_set), study["candidates"]),
            batch_sizes=batches,
            repeats=study["repeats"],
            max_seconds=study["max_seconds"],
        )
        _keep(tracking, one, timing)
        timed.append(_Timed(name, stamp_set.stamp_size, timing))
    found.append(_prediction(timed))
    imaging = next((i for i in map(imaging_of, opened.values()) if i is not None), None)
    found.append(_comparison(timed, imaging))
    for section in found:
        for title, table in section.tables.items():
            console.print(frame_table(table, title))
    return found


# --- training --------------------------------------------------------------------------


def _training(chosen: list[ChosenModel], names: list[str], machine: Machine) -> Section:
    rows = []
    for name, one in zip(names, chosen, strict=True):
        metrics = one.metrics or {}
        cpu, wall = metrics.get("cost/train_cpu_hours"), metrics.get("cost/train_wall_s")
        if cpu is None or wall is None:
            continue
        training_set = one.model.provenance.training_set
        stamps = training_set.n_train if training_set else None
        epochs = metrics.get("epochs")
        row: dict[str, Any] = {
            "network": name,
            "stamps": stamps,
            "epochs": epochs,
            "CPU-hours": cpu,
            "wall hours": wall / 3600,
            "cores busy": cpu * 3600 / wall if wall else float("nan"),
            "node-hours": machine.node_hours(wall),
            "hours charged": machine.charged_hours(wall),
        }
        kind = one.model.inputs.kind
        if kind in TABLE_1 and stamps and epochs:
            paper = TABLE_1[kind]
            row["CPU-hours at the paper's size"] = extrapolated_hours(
                cpu, stamps, epochs, N_TRAIN, paper.epochs
            )
            row["the paper's hours"] = paper.cpu_hours
        rows.append(row)
    share = (
        "whole nodes are charged"
        if machine.cores is None
        else f"{machine.cores} of {machine.nodes * machine.cores_per_node} cores are charged"
    )
    dia, nodia = TABLE_1["dia"], TABLE_1["nodia"]
    return Section(
        "training",
        "Training",
        [
            "CPU-hours are user and system time of the process that trained and of all processes "
            "that it started, from the first epoch to the last save point; a run that was taken "
            "up adds its parts. Wall hours are the clock over the same time. Preparing the "
            "stamps is part of it; simulating or reading them in, and the evaluation at the end, "
            "are not.",
            f"Node-hours follow NERSC's rule: nodes × wall hours, charged times the machine's "
            f"factor ({machine.charge_factor:g}) and the queue's ({machine.qos_factor:g}); here "
            f"{machine.nodes} node(s) of {machine.cores_per_node} cores, {share}. They say what "
            "would be charged if a node there took as long as this machine did, and nothing "
            f"about how fast that node is. The paper gives ~{dia.cpu_hours:.0f} and "
            f"~{nodia.cpu_hours:.0f} hours for its two networks, once as “CPU node hours” and "
            "once as CPU hours; on which node is not said.",
            f"The column at the paper's size multiplies the CPU time per stamp and epoch by "
            f"{N_TRAIN:,} stamps and the paper's ~{dia.epochs} (DIA) or ~{nodia.epochs} (noDIA) "
            "epochs: an extrapolation, not a measurement. Energy is not measured and not "
            "estimated.",
        ],
        tables={"Cost of training": pd.DataFrame(rows)},
    )


# --- prediction ------------------------------------------------------------------------


def _keep(tracking: Tracking, chosen: ChosenModel, timing: pd.DataFrame) -> None:
    """The time at the paper's batch size goes to the run, where the comparison finds it."""
    at = timing[timing["batch_size"] == BATCH_SIZE]
    if chosen.run_id and len(at):
        TrackedRun(tracking, chosen.run_id).log_metrics(
            {
                "cost/ms_per_stamp": float(at["ms_per_stamp"].iloc[0]),
                "cost/ms_per_stamp_mad": float(at["mad"].iloc[0]),
            }
        )


def _busy(timed: list[_Timed]) -> list[str]:
    """Whether the clock ran well ahead of the CPU while networks were timed."""
    shares = [
        share
        for one in timed
        for share in one.timing["cpu_ms_per_stamp_with_scaling"]
        / one.timing["ms_per_stamp_with_scaling"]
    ]
    share = float(np.median(shares)) if shares else 1.0
    if share > 0.8:
        return []
    return [
        f"While this was timed the process had {100 * share:.0f} % of a processor: the machine "
        "was busy, and clock times here are upper limits."
    ]


def _prediction(timed: list[_Timed]) -> Section:
    rows = []
    for one in timed:
        for t in one.timing.itertuples():
            rows.append(
                {
                    "network": one.name,
                    "stamps at a time": t.batch_size,
                    "ms per stamp": t.ms_per_stamp,
                    "± MAD": t.mad,
                    "with scaling": t.ms_per_stamp_with_scaling,
                    "± MAD ": t.mad_with_scaling,
                    "CPU ms, with scaling": t.cpu_ms_per_stamp_with_scaling,
                    "calls timed": t.repeats,
                }
            )
    quoted = {f"the paper's {NETWORKS[inputs]}": paper.ms for inputs, paper in TABLE_1.items()}
    dia, nodia = (f"{paper.ms:.2f} ± {paper.ms_error:.2f} ms" for paper in TABLE_1.values())
    figure = prediction_figure({one.name: one.timing for one in timed}, quoted)
    return Section(
        "prediction",
        "Time of a prediction",
        [
            "Median and median absolute deviation over repeated calls, after calls that warm up; "
            f"{torch.get_num_threads()} thread(s). The network alone is what the paper's Table 1 "
            f"times ({dia} with the difference image, {nodia} without, on its "
            "machine); with scaling, raw pixels go in and probabilities come out. Other work on "
            "the machine lengthens clock times; the CPU time is hardly touched by it.",
            *_busy(timed),
        ],
        [Picture("prediction_time", figure, "Time per stamp by the number scored at a time.")],
        {"Time of a prediction": pd.DataFrame(rows)},
    )


# --- difference imaging against prediction ---------------------------------------------


def _comparison(timed: list[_Timed], imaging: Imaging | None) -> Section:
    rows = []
    paper_s = IMAGING_HOURS * 3600
    if imaging is not None:
        for step in imaging.seconds:
            rows.append(
                _line(
                    f"DIA here: {step.replace('_', ' ').replace('psf', 'PSF')}",
                    imaging.per_plane(step), 1000 * imaging.per_candidate(step), True,
                )
            )  # fmt: skip
    for one in timed:
        per_plane = one.cpu_s * imaging.candidates_per_plane if imaging is not None else None
        name = f"{one.name}, candidates"
        rows.append(_line(name, per_plane, 1000 * one.cpu_s, True))
    for one in timed:
        name = f"{one.name}, tiles"
        rows.append(_line(name, one.cpu_s * tiles_per_plane(one.side), None, True))
    rows += [
        _line("DES: all of DIA", paper_s, None, False),
        _line("DES: PSF matching", PSF_MATCHING_SHARE * paper_s, None, False),
    ]
    for inputs, paper in TABLE_1.items():
        name = f"paper's {NETWORKS[inputs]}, tiles (clock)"
        rows.append(_line(name, paper.ms * tiles_per_plane(STAMP_SIDE) / 1000, None, False))
    table = pd.DataFrame(rows)
    drawn = table[table["CPU s per focal plane"].notna()]
    figure = plane_figure(
        drawn["what"].tolist(), drawn["CPU s per focal plane"].tolist(),
        (drawn["where"] == "here").tolist(),
    )  # fmt: skip
    return Section(
        "difference-imaging",
        "Section 5.2: difference imaging against prediction",
        [*_measured(imaging), *_ratio(timed, imaging), *_CAVEATS],
        [
            Picture(
                "focal_plane",
                figure,
                "CPU time of a DECam focal plane (62 CCDs of 2048×4096 px). Filled: measured on "
                "this machine; open: the paper's numbers, from other machines. Candidates: those "
                "that were detected; tiles: stamps that cover the plane once.",
            )
        ],
        {"CPU time of difference imaging and of prediction": table},
    )


def _line(what: str, plane_s: float | None, candidate_ms: float | None, here: bool) -> dict:
    return {
        "what": what,
        "CPU s per focal plane": np.nan if plane_s is None else plane_s,
        "CPU ms per candidate": np.nan if candidate_ms is None else candidate_ms,
        "where": "here" if here else "paper",
    }


def _measured(imaging: Imaging | None) -> list[str]:
    if imaging is None:
        return [
            "The stamp sets of these runs do not say what their difference images took; only the "
            "simulated survey measures it (data=simulated). The paper's numbers stand alone here."
        ]
    side = round(imaging.frame_px**0.5)
    return [
        f"The simulated survey makes its difference images on this machine and measures each step: "
        f"{imaging.frames:,} frames of {side}×{side} px with {imaging.candidates:,} candidates. A "
        f"frame is scaled to the focal plane by its area, {imaging.candidates_per_plane:,.0f} "
        "candidates at the same density. CPU time, so other work on the machine counts little.",
    ]


def _ratio(timed: list[_Timed], imaging: Imaging | None) -> list[str]:
    if imaging is None or not timed:
        return []
    dia = sum(imaging.per_candidate(s) for s in imaging.seconds)
    said = [
        f"{one.name} scores a candidate in {1000 * one.cpu_s:.3g} ms of CPU time, "
        f"1/{dia / one.cpu_s:.3g} of the {1000 * dia:.3g} ms that its difference image took"
        for one in timed
    ]
    return ["; ".join(said) + "."]


_CAVEATS = [
    "What this is not: our difference imaging starts from two frames that are already registered, "
    f"with a matching kernel that is constant over a small frame. The {IMAGING_HOURS} CPU hours "
    "of DES are "
    "for a whole production pipeline on images of 2.2 square degrees and include what is not "
    "done here, such as resampling, astrometry and reading. The two differ in extent, not only "
    "in speed, and are not to be divided by each other.",
    "And a network without the difference image does not do away with it yet: these candidates "
    "were found in difference images, here as in the paper (section 5.2). Candidates from the "
    "search image alone would have to be detected there, which costs time too, and would be "
    f"more. The paper's own estimate is for tiles of {STAMP_SIDE}×{STAMP_SIDE} px that cover the "
    f"plane once ({tiles_per_plane(STAMP_SIDE):,.0f} of them, about a minute at "
    f"{TABLE_1['nodia'].ms} ms).",
]


# --- helpers ---------------------------------------------------------------------------


def _names(chosen: list[ChosenModel]) -> list[str]:
    """Names that tell the runs apart, those of equal name with the start of their ID."""
    names = [c.name for c in chosen]
    return [
        f"{c.name} ({c.run_id[:6]})" if names.count(c.name) > 1 and c.run_id else c.name
        for c in chosen
    ]


def _stamps_for(
    chosen: ChosenModel, config: Mapping[str, Any], opened: dict[str, StampSet]
) -> StampSet | None:
    """The set named with ``data=…``, or else the run's own; None for a file without either."""
    if config["data"]["name"]:
        data = config["data"]
    elif chosen.config is not None:
        data = chosen.config["data"]
    else:
        return None
    key = str(data)
    if key not in opened:
        opened[key] = open_stamps(data)
    return opened[key]
