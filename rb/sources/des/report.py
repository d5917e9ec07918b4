"""Collect what was wrong with an archive, by ID and member, as ``build-report.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rb.sources.des.archive import PREFIXES
from rb.sources.des.plan import Plan, channel_names
from rb.sources.des.read import UnitResult

_WHAT = {
    "missing_member": "candidates without all the stamps that `require` names; dropped",
    "bad_member": "files that hold no usable stamp; dropped where `require` names the panel",
    "conflicting_duplicate": "IDs whose files of one panel differ in their pixels; dropped",
    "identical_duplicate": "IDs with several files of the same pixels; kept once",
    "id_without_row": "candidates that the feature table does not know",
    "row_without_stamps": "rows of the feature table without any stamp file",
    "not_finite": "kept stamps with NaN or infinite pixels",
}


@dataclass
class Outcome:
    """What became of the planned rows."""

    kept: np.ndarray  # bool, (N,)
    good: np.ndarray  # bool, (N, 3): a usable stamp was written
    nan: dict[int, tuple[int, int]]  # place -> NaN and infinite pixels, of good stamps
    bad: list[tuple[int, str, str]] = field(default_factory=list)  # place, member, reason
    conflicting: set[int] = field(default_factory=set)  # rows
    identical: set[int] = field(default_factory=set)  # rows


def judge(plan: Plan, results: list[UnitResult]) -> Outcome:
    """Decide which rows are kept, from the results of all units."""
    n = len(plan.ids)
    n_bad = np.zeros(3 * n, np.int64)
    bad: list[tuple[int, str, str]] = []
    digests: dict[int, str] = {}
    nonfinite: dict[int, tuple[int, int]] = {}
    conflicting: set[int] = set()
    identical: set[int] = set()
    for result in results:
        for entry, reason in result.bad:
            place, member = plan.place_and_member(result.number, entry)
            n_bad[place] += 1
            bad.append((place, member, reason))
        for place, nan, infinite in result.nonfinite:
            nonfinite[place] = (nan, infinite)
        for _, place, digest in result.digests:
            row = place // 3
            if digests.setdefault(place, digest) != digest:
                conflicting.add(row)
            else:
                identical.add(row)
    # `identical` holds every row with a repeated file so far; only true repeats are meant.
    repeated = {
        place // 3 for place in np.flatnonzero(plan.row_copies.reshape(-1) - n_bad > 1).tolist()
    }
    good = np.asarray(plan.row_copies) > n_bad.reshape(n, 3)
    kept = np.asarray(good[:, plan.required].all(axis=1))
    kept[list(conflicting)] = False
    return Outcome(
        kept,
        good,
        {p: v for p, v in nonfinite.items() if kept[p // 3]},
        sorted(bad),
        conflicting,
        (identical & repeated) - conflicting,
    )


def report_of(plan: Plan, outcome: Outcome, table: dict[str, Any] | None) -> dict[str, Any]:
    """Everything that was found and dropped, JSON-serialisable.

    Parameters
    ----------
    plan : Plan
        What was found.
    outcome : Outcome
        What became of it.
    table : dict, optional
        ``path`` and ``ids`` (sorted) of the feature table.
    """
    problems: dict[str, list[Any]] = {name: [] for name in _WHAT}
    missing = np.flatnonzero(~plan.complete)
    required = np.isin(np.arange(3), plan.required)
    for number in missing.tolist():
        lacks = (plan.copies[number] == 0) & required
        problems["missing_member"].append(
            {
                "id": int(plan.candidates[number]),
                "missing": channel_names(lacks),
                "found": [],
            }
        )
    found = {int(number): place for place, number in enumerate(missing)}
    chosen = np.zeros(len(plan.candidates), bool)
    chosen[missing] = True
    for number, _, member in plan.members_of(chosen):
        problems["missing_member"][found[number]]["found"].append(member)
    for place, member, reason in outcome.bad:
        problems["bad_member"].append(
            {"id": int(plan.ids[place // 3]), "member": member, "reason": reason}
        )
    for name, rows in (
        ("conflicting_duplicate", outcome.conflicting),
        ("identical_duplicate", outcome.identical),
    ):
        members: dict[int, list[str]] = {int(plan.ids[row]): [] for row in sorted(rows)}
        wanted = np.isin(plan.candidates, np.array(list(members), np.int64))
        for number, channel, member in plan.members_of(wanted):
            if plan.copies[number, channel] > 1:
                members[int(plan.candidates[number])].append(member)
        problems[name] = [{"id": i, "members": m} for i, m in members.items()]
    for place, (nan, infinite) in sorted(outcome.nan.items()):
        problems["not_finite"].append(
            {
                "id": int(plan.ids[place // 3]),
                "panel": PREFIXES[place % 3],
                "nan": nan,
                "infinite": infinite,
            }
        )
    if table is not None:
        known = np.isin(plan.candidates, table["ids"])
        problems["id_without_row"] = plan.candidates[~known].tolist()
        problems["row_without_stamps"] = table["ids"][
            ~np.isin(table["ids"], plan.candidates)
        ].tolist()
    n, kept = len(plan.candidates), int(outcome.kept.sum())
    return {
        "candidates": {
            "found": n,
            "kept": kept,
            "dropped": n - kept,
            "damaged": n_damaged(plan, outcome),
        },
        "files": {"found": plan.n_files, "read": plan.n_planned},
        "table": None if table is None else {"path": table["path"], "rows": len(table["ids"])},
        "shards": [
            {
                "name": shard.name or "unpacked files",
                "stamps": len(shard.index),
                "passed_over": shard.index.skipped,
                "problems": shard.index.problems,
            }
            for shard in plan.shards
        ],
        "problems": {
            name: {"what": _WHAT[name], "count": len(items), "list": items}
            for name, items in problems.items()
        },
    }


def n_damaged(plan: Plan, outcome: Outcome) -> int:
    """Candidates that are dropped for a fault of their files."""
    return int((~plan.complete).sum() + (~outcome.kept).sum())


def first_fault(plan: Plan, outcome: Outcome) -> str:
    """One sentence on the first fault, naming the file."""
    for place, member, reason in outcome.bad:
        if not outcome.kept[place // 3]:
            return f"{member} {reason}"
    if outcome.conflicting:
        number = plan.ids[min(outcome.conflicting)]
        return f"candidate {number} has files that contradict each other"
    missing = np.flatnonzero(~plan.complete)
    if len(missing):
        number = missing[0]
        lacks = (plan.copies[number] == 0) & np.isin(np.arange(3), plan.required)
        files = ", ".join(f"{name}{plan.candidates[number]}.fits" for name in channel_names(lacks))
        return f"{files} is missing"
    return "none of the candidates has a row in the feature table"
