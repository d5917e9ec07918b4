"""Training, validation and test sets, reproducible from their settings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from rb.errors import UserError
from rb.stamps.stampset import BOGUS, REAL, UNKNOWN

SUBSETS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Row numbers of each subset in the stamp set, int64, in random order."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def __getitem__(self, subset: str) -> np.ndarray:
        if subset not in SUBSETS:
            raise KeyError(subset)
        return getattr(self, subset)

    def digest(self, ids: np.ndarray) -> str:
        """SHA-256 over the identifiers in each subset; equal splits have equal digests."""
        digest = hashlib.sha256()
        for subset in SUBSETS:
            digest.update(subset.encode())
            digest.update("\n".join(map(str, ids[self[subset]])).encode())
        return digest.hexdigest()


def make_split(
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    by: str = "random",
    seed: int = 1,
    train: float | int | None = None,
    val: float | int = 0.15,
    test: float | int = 0.15,
    balanced: bool = False,
    folds: int | None = None,
    fold: int = 0,
    classes: bool = True,
) -> Split:
    """Divide the labelled candidates into training, validation and test sets.

    Parameters
    ----------
    labels : int array, (N,)
        0 real, 1 bogus, -1 unknown; the unknown are in no subset.
    groups : array, (N,)
        Candidates of a group stay together if `by` is ``group``.
    by : str
        ``random`` by candidate, as in the paper (section 4.2), or ``group``, so that stamps
        of one field or exposure are never on both sides.
    seed : int
        The same settings on the same set give the same split.
    train, val, test : int, float or None
        Numbers of candidates (int) or fractions of the labelled ones (float below 1);
        ``train=None`` takes all that is left. With groups, subsets are filled group by group
        until they hold at least that many, so they can be a little larger.
    balanced : bool
        Draw as many real as bogus candidates; what the larger class has more stays unused.
    folds, fold : int
        Cross-validation: test and validation keep their meaning, but the test set is part
        `fold` of `folds` equal parts, and `test` is ignored.
    classes : bool
        Whether every subset has to hold real and bogus candidates; tiles of images need not.

    Raises
    ------
    UserError
        If sizes do not fit, a subset would be empty, or a class is missing.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    if by not in ("random", "group"):
        raise UserError(f"split.by is '{by}'; choose random or group")
    if folds is not None and not (folds >= 2 and 0 <= fold < folds):
        raise UserError(f"split.fold is {fold} of split.folds {folds}; give 0 ≤ fold < folds ≥ 2")
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(labels != UNKNOWN)
    for label, name in ((REAL, "real"), (BOGUS, "bogus")):
        if classes and not np.any(labels == label):
            raise UserError(
                f"the stamp set has no candidate labelled {name}; a split needs both classes"
            )
    order = rng.permutation(known)
    if balanced:
        order = _balance(order, labels)
    n = len(order)
    wanted = {
        "test": n / folds if folds else _count(test, n, "test"),
        "val": _count(val, n, "val"),
    }
    wanted["train"] = n - sum(wanted.values()) if train is None else _count(train, n, "train")
    if train is not None and folds is None and sum(wanted.values()) > n:
        raise UserError(
            f"split.train + split.val + split.test ask for {int(sum(wanted.values()))} candidates, "
            f"the set has {n} to give; ask for less or use more data"
        )
    if wanted["train"] < 1:
        raise UserError("split.val and split.test leave nothing to train on; make them smaller")
    if by == "group":
        # Ordering whole groups at random and cutting at group borders keeps them together.
        _, first = np.unique(groups[order], return_index=True)
        rank = {groups[order[i]]: k for k, i in enumerate(sorted(first))}
        keys = np.array([rank[g] for g in groups[order]])
        order, keys = order[np.argsort(keys, kind="stable")], np.sort(keys, kind="stable")
    else:
        keys = np.arange(n)
    if folds:
        start, stop = (_border(keys, round(n * k / folds)) for k in (fold, fold + 1))
        order = np.concatenate([order[start:stop], order[stop:], order[:start]])
        keys = np.concatenate([keys[start:stop], keys[stop:], keys[:start]])
        test_end = stop - start
    else:
        test_end = _border(keys, round(wanted["test"]))
    val_end = _border(keys, test_end + round(wanted["val"]))
    train_end = n if train is None else _border(keys, val_end + round(wanted["train"]))
    parts = {
        "test": order[:test_end],
        "val": order[test_end:val_end],
        "train": order[val_end:train_end],
    }
    for name, rows in parts.items():
        # A test or validation size of 0 is a choice (train on everything); an empty training
        # set, or one that groups leave without a class, is a mistake.
        there = len(np.unique(labels[rows]))
        if (name == "train" or wanted[name] > 0) and there < (2 if classes else 1):
            raise UserError(
                f"split.{name} would hold {len(rows)} candidates of {there} class(es); "
                "make it larger or use more data"
            )
    return Split(
        # Within a subset the order is random again: fields must not come one after the other.
        **{name: rng.permutation(rows) if by == "group" else rows for name, rows in parts.items()}
    )


def _count(size: float | int, n: int, name: str) -> int:
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    if isinstance(size, float) and 0 <= size < 1:
        return round(size * n)
    raise UserError(
        f"split.{name} is {size}; give a whole number of candidates or a fraction below 1"
    )


def _border(keys: np.ndarray, position: int) -> int:
    """First group border at or after `position`."""
    position = min(position, len(keys))
    while 0 < position < len(keys) and keys[position] == keys[position - 1]:
        position += 1
    return position


def _balance(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    per_class = min(np.sum(labels[order] == REAL), np.sum(labels[order] == BOGUS))
    keep = np.zeros(len(order), dtype=bool)
    for label in (REAL, BOGUS):
        keep[np.flatnonzero(labels[order] == label)[:per_class]] = True
    kept = order[keep]
    # Alternate the classes, so that every subset cut from the front is balanced as well.
    real, bogus = kept[labels[kept] == REAL], kept[labels[kept] == BOGUS]
    return np.stack([real, bogus], 1).reshape(-1)
