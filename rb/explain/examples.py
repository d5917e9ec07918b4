"""Which candidates are shown: the same ones for every run, as far as its calls allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def pick(groups: np.ndarray, wanted: Mapping[str, int], seed: int) -> np.ndarray:
    """Row numbers of some candidates of each group, in the order of `wanted`.

    Candidates are drawn from one random order of all of them, so that runs that were scored
    on the same candidates show the same ones where they agree.

    Parameters
    ----------
    groups
        (n,) group of each candidate.
    wanted
        By group: how many; fewer come back where there are fewer.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen = [order[groups[order] == group][:count] for group, count in wanted.items()]
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=int)


def balanced(called_real: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Row numbers of `n` candidates, half of them called real where there are enough."""
    order = np.random.default_rng(seed).permutation(len(called_real))
    real, bogus = order[called_real[order]], order[~called_real[order]]
    n_real = min(len(real), max((n + 1) // 2, n - len(bogus)))
    real, bogus = real[:n_real], bogus[: n - n_real]
    # Alternating, so that the first few are balanced as well.
    return _alternate(real, bogus)


def _alternate(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> np.ndarray:
    both = [(2 * i, x) for i, x in enumerate(first)] + [
        (2 * i + 1, x) for i, x in enumerate(second)
    ]
    return np.array([x for _, x in sorted(both)], dtype=int)
