"""What MLflow calls to load and serve a trained model: stamps or features in, p_real out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rb.models.checkpoint import TrainedModel, load_model
from rb.models.forest.scorer import SUFFIX, TrainedForest, load_forest


class ServedModel:
    """Adapter between MLflow's ``predict`` and a trained network or forest."""

    def __init__(self, model: TrainedModel | TrainedForest) -> None:
        self.model = model

    def predict(self, stamps: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """p_real, float32 (N,).

        Parameters
        ----------
        stamps
            Raw stamps (N, 3, S, S) in the order diff, srch, tmpl, or a mapping that holds them
            as ``stamps``, which is what MLflow makes of them; for a forest, also a DataFrame with
            its features as columns.
        """
        if isinstance(stamps, Mapping):
            stamps = stamps["stamps"]
        if isinstance(stamps, pd.DataFrame) and isinstance(self.model, TrainedForest):
            return self.model.p_real_of_features(stamps).astype(np.float32)
        return self.model.p_real(np.asarray(stamps, dtype=np.float32)).astype(np.float32)


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry point; `path` is the checkpoint, or the folder that holds it."""
    file = Path(path)
    if not file.is_file():
        file = next(f for f in sorted(file.iterdir()) if f.suffix in (".ckpt", SUFFIX))
    return ServedModel(load_forest(file) if file.suffix == SUFFIX else load_model(file))
