"""Which image decides: winner panels by quadrant of the confusion matrix (Figure 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rb.explain.shares import CALLS, QUADRANT_NAMES, share_columns
from rb.metrics.intervals import proportion


def winner_table(
    table: pd.DataFrame,
    channels: Sequence[str],
    published: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How often each panel decides, by quadrant.

    Parameters
    ----------
    table
        From `rb.explain.shares.shares_table`.
    channels
        The panels.
    published
        Percentages of others to set beside: by title of the column, quadrant and panel.
    confidence
        Of the Wilson intervals.

    Returns
    -------
    DataFrame
        A row for each quadrant with stamps and each panel. `stamps` are those with a map
        that is not zero; `wins` have their largest share in the panel, `win %` with
        its limits; `above` have a share above 1/C there, where several panels may;
        `mean share`. Then the published percentages.
    """
    rows = []
    for quadrant in (*QUADRANT_NAMES, *CALLS):
        part = table[(table["quadrant"] == quadrant) & table["winner"].notna()]
        if part.empty:
            continue
        for channel, column in zip(channels, share_columns(channels), strict=True):
            wins = int((part["winner"] == channel).sum())
            above = int((part[column] > 1 / len(channels)).sum())
            estimate = proportion(wins, len(part), confidence)
            row = {
                "quadrant": quadrant,
                "panel": channel,
                "stamps": len(part),
                "wins": wins,
                "win %": round(100 * estimate.value, 1),
                "low": round(100 * estimate.low, 1),
                "high": round(100 * estimate.high, 1),
                "above": above,
                f"> 1/{len(channels)} %": round(100 * above / len(part), 1),
                "mean share": round(float(part[column].mean()), 3),
            }
            for title, percents in (published or {}).items():
                row[title] = percents.get(quadrant, {}).get(channel, np.nan)
            rows.append(row)
    return pd.DataFrame(rows)


def win_counts(table: pd.DataFrame, channels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Stamps that each panel wins, by quadrant and panel; quadrants without stamps hold zeros."""
    return {
        quadrant: {
            channel: int(((table["quadrant"] == quadrant) & (table["winner"] == channel)).sum())
            for channel in channels
        }
        for quadrant in QUADRANT_NAMES
    }
