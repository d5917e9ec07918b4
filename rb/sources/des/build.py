"""Build a stamp set from a DES archive: index the shards, plan, read in parallel, finish.

The work lies in the folder of `rb.stamps.resumable`: an index for each tar, the stamps
(preallocated), and a small file for each unit of work that is done. A build that was killed finds
them there and goes on; the set itself appears by one rename at the end.

It has no `Parts` as other sources do: rows are in order of ID, but shards hold the IDs in any
order, so that each panel of a stamp comes from somewhere else. Processes therefore write pixels
straight into their places in one file, which becomes that of the set; 28 GB are written once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.files import aside
from rb.io.progress import Bars
from rb.io.workers import worker_pool
from rb.sources.des.archive import Index, Listing, index_tar
from rb.sources.des.catalogue import catalogue, origin_table
from rb.sources.des.file import StampFile
from rb.sources.des.plan import Plan, Shard
from rb.sources.des.read import UnitResult, read_unit
from rb.sources.des.report import Outcome, first_fault, judge, n_damaged, report_of
from rb.sources.des.settings import DesSettings
from rb.sources.des.table import Labels, read_labels
from rb.stamps.stampset import CHANNELS, STAMP_SIZE
from rb.stamps.writer import StampSetWriter

if TYPE_CHECKING:
    import pandas as pd

PIXEL_SCALE = 0.263  # arcsec per pixel of DECam
_WORTH_A_POOL = 4000  # files; below, starting processes takes longer than reading
_log = logging.getLogger(__name__)


def build(
    path: Path,
    work: Path,
    settings: DesSettings,
    listing: Listing,
    table: Path | None,
    parameters: dict[str, Any],
    show: Bars,
) -> None:
    """Build the set `path`, in the folder `work`.

    Raises
    ------
    UserError
        If there is nothing to keep, too much is damaged, or the disk is too small.
    """
    labels = read_labels(table) if table is not None else None
    with _pool(settings, listing) as pool:
        shards = _index(work, listing, pool, show)
        plan = _plan(settings, shards, labels)
        _check_share(path, settings, plan, _untouched(plan), labels, early=True)
        stamps = StampFile.allocate(work / "stamps.npy", len(plan.ids))
        results = _read(work, plan, stamps, pool, show)
    outcome = judge(plan, results)
    report = _check_share(path, settings, plan, outcome, labels)
    with show.task("writing the catalogue"):
        order = stamps.close_gaps(outcome.kept, outcome.good)
        rows = catalogue(plan, order, settings.flat, labels)
        _publish(path, plan, outcome, order, stamps, rows, report, parameters)


# --- the steps -------------------------------------------------------------------------


def _index(work: Path, listing: Listing, pool: Executor | None, show: Bars) -> list[Shard]:
    shards = [Shard("", str(listing.root), listing.tree)] if len(listing.tree) else []
    files = [work / f"index-{i:04d}.npz" for i in range(len(listing.tars))]
    todo = [i for i, file in enumerate(files) if not file.exists()]
    with show.task("finding stamps", len(files), "tars") as step:
        step.at(len(files) - len(todo))
        tasks = ((_save_index, str(listing.tars[i]), str(files[i])) for i in todo)
        for n, _ in enumerate(_run(pool, tasks), len(files) - len(todo) + 1):
            step.at(n)
    for tar, file in zip(listing.tars, files, strict=True):
        shards.append(Shard(listing.relative(tar), str(tar), Index.load(file)))
    if not any(len(shard.index) for shard in shards):
        problems = [f"{s.name} {p}" for s in shards for p in s.index.problems]
        why = f" ({problems[0]})" if problems else ""
        raise UserError(f"{listing.root}: no stamps named like diff123.fits in its tars{why}")
    return shards


def _save_index(tar: str, file: str) -> None:
    try:
        index = index_tar(Path(tar))
    except OSError as error:
        raise UserError(f"{tar}: cannot be read ({error.strerror or error})") from error
    index.save(Path(file))


def _plan(settings: DesSettings, shards: list[Shard], labels: Labels | None) -> Plan:
    required = [CHANNELS.index(c) for c in settings.required]
    only_labelled = labels is not None and settings.unlabelled == "drop"
    plan = Plan(shards, required, labels.ids if labels is not None and only_labelled else None)
    if labels is not None and not np.isin(plan.candidates, labels.ids).any():
        raise UserError(
            f"{labels.path}: none of its {len(labels.ids):,} IDs is among the "
            f"{len(plan.candidates):,} candidates with stamps; is it the table of these stamps?"
        )
    return plan


def _untouched(plan: Plan) -> Outcome:
    return Outcome(np.ones(len(plan.ids), bool), plan.row_copies > 0, {})


def _check_share(
    path: Path,
    settings: DesSettings,
    plan: Plan,
    outcome: Outcome,
    labels: Labels | None,
    early: bool = False,
) -> dict[str, Any]:
    """Stop if too much is damaged; the report then stays beside where the set would be."""
    damaged, found = n_damaged(plan, outcome), len(plan.candidates)
    share = damaged / found
    too_many = share > settings.max_bad_share or not outcome.kept.any()
    if early and not too_many:
        return {}
    report = report_of(
        plan,
        outcome,
        None if labels is None else {"path": str(labels.path), "ids": labels.ids},
    )
    if not too_many:
        return report
    file = path.with_name(f"{path.name}.build-report.json")
    file.write_text(json.dumps(report, indent=1), encoding="utf-8")
    fault = first_fault(plan, outcome)
    if share > settings.max_bad_share:
        raise UserError(
            f"{settings.root}: {damaged:,} of {found:,} candidates are damaged "
            f"({100 * share:.3g} %, data.max_bad_share={settings.max_bad_share:g}); the first: "
            f"{fault}; all are listed in {file}"
        )
    raise UserError(
        f"{settings.root}: not one of {found:,} candidates can be kept; the first: {fault}; "
        f"all are listed in {file}"
    )


def _read(
    work: Path, plan: Plan, stamps: StampFile, pool: Executor | None, show: Bars
) -> list[UnitResult]:
    results: dict[int, UnitResult] = {}
    for number in range(plan.n_units):
        file = work / f"unit-{number:05d}.json"
        if file.exists():
            results[number] = UnitResult(**json.loads(file.read_text()))
    done = sum(plan.unit_size(number) for number in results)
    with show.task("reading stamps", plan.n_planned) as step:
        step.at(done)
        todo = (number for number in range(plan.n_units) if number not in results)
        tasks = ((read_unit, plan.unit(number), str(stamps.path), stamps.header) for number in todo)
        for found in _run(pool, tasks):
            result = UnitResult(**found)
            file = work / f"unit-{result.number:05d}.json"
            with aside(file) as part:
                part.write_text(json.dumps(found))
            results[result.number] = result
            done += plan.unit_size(result.number)
            step.at(done)
    return [results[number] for number in sorted(results)]


def _publish(
    path: Path,
    plan: Plan,
    outcome: Outcome,
    order: np.ndarray,
    stamps: StampFile,
    rows: pd.DataFrame,
    report: dict[str, Any],
    parameters: dict[str, Any],
) -> None:
    good = outcome.good[order]
    provided = good.any(axis=0)
    # A stamp that is not there is NaN, and counts as such where its channel is provided.
    nan = STAMP_SIZE**2 * (~good & provided).sum(axis=1)
    row_of = np.zeros(len(plan.ids), np.int64)
    row_of[order] = np.arange(len(order))
    for place, (pixels, _) in outcome.nan.items():
        nan[row_of[place // 3]] += pixels
    with StampSetWriter(
        path,
        source="des",
        parameters=parameters,
        survey="DES autoscan",
        pixel_scale=PIXEL_SCALE,
        channels=[name for name, there in zip(CHANNELS, provided, strict=True) if there],
        overwrite=True,
    ) as writer:
        writer.add_document("build-report", report)
        writer.add_table("origin", origin_table(plan, order))
        writer.adopt(
            stamps.path, rows, n_nan_pixels=int(nan.sum()), n_nan_stamps=int((nan > 0).sum())
        )
    candidates = report["candidates"]
    if candidates["dropped"]:
        _log.warning(
            "%d of %d candidates were left out, see %s",
            candidates["dropped"],
            candidates["found"],
            path / "build-report.json",
        )


# --- processes -------------------------------------------------------------------------


@contextlib.contextmanager
def _pool(settings: DesSettings, listing: Listing) -> Iterator[Executor | None]:
    """Processes to work in, or None where it is not worth starting them."""
    size = sum(tar.stat().st_size for tar in listing.tars)
    small = len(listing.tree) < _WORTH_A_POOL and size < _WORTH_A_POOL * 2**14
    if settings.n_processes == 1 or small:
        yield None
        return
    with worker_pool(settings.n_processes) as pool:
        yield pool


def _run(pool: Executor | None, tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the results of (function, arguments…) as they come, a few ahead of the workers."""
    if pool is None:
        for function, *arguments in tasks:
            yield function(*arguments)
        return
    tasks = iter(tasks)
    ahead = 2 * (os.cpu_count() or 1)
    waiting: set[Future[Any]] = set()
    while True:
        # Few are handed out at a time, because a task carries arrays.
        for function, *arguments in tasks:
            waiting.add(pool.submit(function, *arguments))
            if len(waiting) >= ahead:
                break
        if not waiting:
            return
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
