"""How long a classifier takes for a stamp."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZES = (1, 32, 200, 1000)


def time_prediction(
    predict: Callable[[Any], Any],
    batch: Any,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    repeats: int = 20,
    warm_up: int = 3,
    max_seconds: float = 5.0,
    synchronise: Callable[[], Any] | None = None,
) -> pd.DataFrame:
    """Clock time of a prediction per stamp, for several batch sizes.

    Preparation of the stamps is the caller's choice: what `predict` does is what is timed.

    Parameters
    ----------
    predict
        Called with `batch[:size]`; its result is dropped.
    batch
        Array or tensor, stamps along the first axis. A batch size beyond its length is
        filled by repeating it.
    repeats
        Timed calls for each batch size; at least one and then no more than fit into
        `max_seconds`.
    warm_up
        Calls before the clock starts, so that memory is allocated, kernels are chosen and
        caches filled; at least one and then no more than fit into half of `max_seconds`.
    max_seconds
        Longest time spent on one batch size, where two calls take less.
    synchronise
        Called before the clock is read; for an accelerator, which computes while Python
        runs on (`torch.cuda.synchronize`).

    Returns
    -------
    pandas.DataFrame
        A row a batch size: `batch_size`, `ms_per_stamp` (median), `mad` (median
        absolute deviation), `min`, `max`, `cpu_ms_per_stamp` (median of the
        process's CPU time over all threads), `repeats`. All times are milliseconds per
        stamp.

    Raises
    ------
    ValueError
        If `batch` is empty or a batch size is below 1.
    """
    import pandas as pd

    if len(batch) == 0 or min(batch_sizes) < 1:
        raise ValueError("timing needs at least one stamp and batch sizes of at least 1")
    wait = synchronise or (lambda: None)
    rows = []
    for size in batch_sizes:
        some = batch[:size] if size <= len(batch) else batch[np.arange(size) % len(batch)]
        started = time.perf_counter()
        for _ in range(warm_up):
            predict(some)
            wait()
            if time.perf_counter() - started > max_seconds / 2:
                break
        wall: list[float] = []
        cpu: list[float] = []
        while not wall or (len(wall) < repeats and time.perf_counter() - started < max_seconds):
            before, before_cpu = time.perf_counter(), time.process_time()
            predict(some)
            wait()
            cpu.append(time.process_time() - before_cpu)
            wall.append(time.perf_counter() - before)
        per_stamp = 1e3 * np.array(wall) / size
        median = float(np.median(per_stamp))
        rows.append(
            {
                "batch_size": size,
                "ms_per_stamp": median,
                "mad": float(np.median(np.abs(per_stamp - median))),
                "min": float(per_stamp.min()),
                "max": float(per_stamp.max()),
                "cpu_ms_per_stamp": float(1e3 * np.median(cpu) / size),
                "repeats": len(wall),
            }
        )
    return pd.DataFrame(rows)
