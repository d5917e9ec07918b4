"""The catalogue of a DES stamp set: identity, label, origin, and the survey's features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rb.sources.des.plan import Plan
from rb.sources.des.table import Labels, band_letters, read_features

if TYPE_CHECKING:
    import pandas as pd

_OURS = (("mag", "MAG"), ("snr", "SNR"))


def catalogue(plan: Plan, order: np.ndarray, flat: str, labels: Labels | None) -> pd.DataFrame:
    """Catalogue rows of a set.

    Parameters
    ----------
    plan : Plan
        The candidates.
    order : int64 array, (N,)
        Row of the plan for each row of the set.
    flat : str
        The setting of this name, see `Plan.origin`.
    labels : Labels, optional
        The feature table.

    Returns
    -------
    pandas.DataFrame
        N rows: ``id``, ``label``, ``group``, ``exposure``, ``date`` (YYYYMMDD), and with a
        table ``band`` (a letter), ``mag``, ``snr``, and its features under their own names.
    """
    import pandas as pd

    ids = plan.ids[order]
    known = np.zeros(len(ids), bool)
    label = np.zeros(len(ids), np.int8)
    if labels is not None:
        at = np.minimum(np.searchsorted(labels.ids, ids), len(labels.ids) - 1)
        known = labels.ids[at] == ids
        label = labels.labels[at]
    columns: dict[str, Any] = {"id": ids, "label": pd.arrays.IntegerArray(label, ~known)}
    origin = plan.origin(flat)
    columns |= {name: origin[name][order] for name in ("group", "exposure", "date")}
    if labels is not None:
        features = read_features(labels.path, ids)
        if "BAND" in features:
            columns["band"] = band_letters(features["BAND"])
        columns |= {ours: features[theirs] for ours, theirs in _OURS if theirs in features}
        columns |= features
    return pd.DataFrame(columns, copy=False)


def origin_table(plan: Plan, order: np.ndarray) -> pd.DataFrame:
    """Side table that says for each ID in which shard and folder its first file lies."""
    import pandas as pd

    origin = plan.origin("together")
    texts = {name: pd.Categorical(origin[name][order]) for name in ("shard", "folder")}
    return pd.DataFrame({"id": plan.ids[order], **texts}, copy=False)
