"""A trained network as a thing to use: weights, inputs, threshold and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.io.checksums import is_whole_archive
from rb.metrics.timing import time_prediction
from rb.models.build import build_network
from rb.models.contract import Provenance, check_judges, checked_threshold
from rb.models.files import PACKAGE_FORMAT
from rb.stamps import StampSet
from rb.stamps.batch import Stamps
from rb.stamps.inputs import InputSpec

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True)
class NetworkScorer:
    """A network with all that is needed to feed it and to read what it says.

    Parameters
    ----------
    network : Module
        In evaluation mode; what `InputSpec.tensors` prepares in, logits (N, 2) out.
    inputs : InputSpec
        What the network is fed.
    threshold : float
        Candidates with p_real at or above it are called real.
    provenance : Provenance
        Name, training set and its digest, split, labels.
    temperature : float, optional
        By which logits are divided, so that scores are probabilities, see
        `rb.uncertainty.calibration`; None where the model was not calibrated.
    """

    network: nn.Module
    inputs: InputSpec
    threshold: float
    provenance: Provenance
    temperature: float | None = None

    def p_real(self, stamps: np.ndarray | Stamps, batch_size: int = 512) -> np.ndarray:
        """Probability of being real, float32 (N,), of raw stamps (N, 3, S, S).

        Raises
        ------
        UserError
            If the stamps have another shape, or lack what the network takes beside them.
        """
        check_judges(self)
        out = np.empty(len(stamps), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(stamps), batch_size):
                rows = slice(start, start + batch_size)
                tensors = (x.to(self._device) for x in self.inputs.tensors(stamps[rows]))
                out[rows] = self.probability(self.network(*tensors)).cpu().numpy()
        return out

    def probability(self, logits: Tensor) -> Tensor:
        """`p_real` (N,) of what the network says (N, 2)."""
        return (logits / (self.temperature or 1.0)).softmax(1)[:, 0]

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """p_real of `rows` (all by default) of a stamp set, read piece by piece."""
        out = np.empty(len(stamp_set) if rows is None else len(rows), dtype=np.float32)
        for places, stamps in self.inputs.pieces(stamp_set, rows):
            out[places] = self.p_real(stamps)
        return out

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time of the network alone, as the paper's Table 1, and with scaling.

        Columns `ms_per_stamp_with_scaling`, `mad_with_scaling` and
        `cpu_ms_per_stamp_with_scaling` are the second measurement.
        """
        raw = stamp_set.read(rows, self.inputs)
        if self._device.type == "cuda":
            how = {"synchronise": torch.cuda.synchronize} | how
        prepared, *side = (x.to(self._device) for x in self.inputs.tensors(raw))

        def predict(x: Tensor) -> Tensor:
            return self.network(x, *(s[:1].expand(len(x), -1) for s in side))

        with torch.inference_mode():
            alone = time_prediction(predict, prepared, **how)
        whole = time_prediction(self.p_real, raw, **how)
        names = ("ms_per_stamp", "mad", "cpu_ms_per_stamp")
        return alone.assign(**{f"{name}_with_scaling": whole[name] for name in names})

    def note_on(self, stamp_set: StampSet) -> None:
        """A network is fed in the same way everywhere."""

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def load_checkpoint(path: Path, cache: Path | None = None) -> NetworkScorer:
    """Load a checkpoint that `train.py` wrote. Nothing in the file is executed.

    Raises
    ------
    UserError
        If the file is missing, damaged, or not such a checkpoint.
    """
    if path.is_file() and not is_whole_archive(path):  # PyTorch does not look at the checksums
        raise UserError(f"{path}: damaged, or not a checkpoint of plain weights (checksums)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # torch raises a different type for each kind of damage
        raise UserError(
            f"{path}: damaged, or not a checkpoint of plain weights ({type(error).__name__})"
        ) from error
    package = checkpoint.get("rb") if isinstance(checkpoint, dict) else None
    if not isinstance(package, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a checkpoint written by train.py")
    if package.get("format") != PACKAGE_FORMAT:
        raise UserError(
            f"{path}: model of format {package.get('format')}, this version reads "
            f"{PACKAGE_FORMAT}; train it again"
        )
    try:
        inputs = InputSpec(**package["inputs"])
        network = build_network(package["network"], inputs)
        weights = {
            name.removeprefix("network."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith("network.")
        }
        network.load_state_dict(weights)
        threshold = checked_threshold(package["threshold"])
        provenance = Provenance.from_dict(package["provenance"])
        temperature = package.get("temperature")
        if temperature is not None and not float(temperature) > 0:
            raise ValueError("no temperature")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path}: the weights do not fit the description of the network") from error
    return NetworkScorer(network.eval(), inputs, threshold, provenance, temperature)
