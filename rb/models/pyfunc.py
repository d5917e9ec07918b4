"""What MLflow calls to load and serve a trained model: stamps or features in, p_real out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rb.models.contract import Scorer
from rb.models.files import load_file
from rb.models.forest.scorer import ForestScorer


class PyfuncModel:
    """Adapter between MLflow's `predict` and a scorer."""

    def __init__(self, model: Scorer) -> None:
        self.model = model

    def predict(self, stamps: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """p_real, float32 (N,).

        Parameters
        ----------
        stamps
            Raw stamps (N, 3, S, S) in the order diff, srch, tmpl, or a mapping that holds them
            as `stamps`, which is what MLflow makes of them; for a forest, also a DataFrame with
            its features as columns.
        """
        if isinstance(stamps, Mapping):
            stamps = stamps["stamps"]
        if isinstance(stamps, pd.DataFrame) and isinstance(self.model, ForestScorer):
            return self.model.forest.predict(stamps).astype(np.float32)
        return self.model.p_real(np.asarray(stamps, dtype=np.float32)).astype(np.float32)


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow's entry point; `path` is the file of the model, or the folder that holds it."""
    return PyfuncModel(load_file(path))
