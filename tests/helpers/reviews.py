"""A review of toy candidates that the tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rb.labels.suspects import write_suspects
from rb.stamps import StampSet


def write_table(stamps: StampSet, path: Path, n: int = 8) -> Path:
    """A table of suspects of a toy set: every candidate ranked, the first `n` suspects."""
    rank = np.arange(1, len(stamps) + 1)
    order = np.random.default_rng(3).permutation(len(stamps))
    labels = stamps.labels[order]
    table = pd.DataFrame(
        {
            "id": stamps.ids[order],
            "label": labels,
            "p_real": np.where(labels == 0, 0.001 * rank, 1 - 0.001 * rank),
            "margin": 0.001 * rank,
            "rank": rank,
            "suspect": rank <= n,
            "suggested": np.where(rank <= n, 1 - labels, labels),
        }
    )
    facts = {"stamp_set": str(stamps.path), "stamps_digest": stamps.digest}
    write_suspects(table, path, facts)
    return path
