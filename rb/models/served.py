"""What MLflow calls to load and serve a trained model: raw stamps in, p_real out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rb.models.package import TrainedModel, load_model


class ServedModel:
    """Adapter between MLflow's ``predict`` and `TrainedModel`."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict(self, stamps: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """p_real, float32 (N,), of raw stamps (N, 3, 51, 51) in the order diff, srch, tmpl."""
        return self.model.p_real(np.asarray(stamps, dtype=np.float32))


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry point; `path` is the checkpoint, or the folder that holds it."""
    file = Path(path)
    return ServedModel(load_model(file if file.is_file() else next(file.glob("*.ckpt"))))
