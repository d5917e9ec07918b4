"""Prediction by the fastest engine that is installed and says the same as PyTorch.

A network is trained in PyTorch; ONNX Runtime and OpenVINO run it faster on many machines. Which of
them is faster depends on the network and the processor, so they are timed. One that differs from
PyTorch by more than `TOLERANCE` on the stamps at hand is not used.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rb.errors import UserError
from rb.io.files import write_whole
from rb.io.workers import engine_threads, in_threads
from rb.models.checkpoint import NetworkScorer
from rb.models.contract import Scorer, check_judges
from rb.scoring.export import TOLERANCE, export, weights_digest
from rb.scoring.exported import load_exported
from rb.scoring.graph import with_embedding
from rb.scoring.trial import simulated
from rb.stamps.batch import Stamps
from rb.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rb.stamps import StampSet

_WORTH_IT_S = 60.0
"""Time in PyTorch from which on an engine is looked for: making a graph takes 15 to 40 s."""
_WORTH_A_KEPT_ONE_S = 5.0
"""The same where the graph of the network is kept already."""

_TRIAL = 256
_BATCH = 64  # stamps in a call: what they become on the way fits into the caches

Predict = Callable[[Stamps], np.ndarray]


class EngineScorer:
    """A network that leaves prediction of many stamps to an engine; a `Scorer`.

    Parameters
    ----------
    scorer : Scorer
        A scorer with a network inside.
    cache : Path, optional
        Folder where graphs of networks are kept, because they take seconds to make.

    Attributes
    ----------
    engine : str
        What predicted last: ``torch``, ``onnxruntime`` or ``openvino``.
    refused : dict
        Engines that were not used, and why.
    """

    def __init__(self, scorer: Scorer, cache: Path | None = None) -> None:
        assert isinstance(scorer, NetworkScorer)
        self._scorer, self._cache = scorer, cache
        self.inputs, self.threshold = scorer.inputs, scorer.threshold
        self.provenance, self.n_parameters = scorer.provenance, scorer.n_parameters
        self.network, self.temperature = scorer.network, scorer.temperature
        self.engine = "torch"
        self.refused: dict[str, str] = {}
        self._fastest: tuple[str, Predict] | None = None
        self._spent_s = 0.0  # in PyTorch

    def p_real(self, stamps: np.ndarray | Stamps) -> np.ndarray:
        """Probability of being real, float32 (N,), of raw stamps (N, 3, S, S)."""
        check_judges(self._scorer)
        stamps = self.inputs.checked(stamps)
        return self._engine(len(stamps), stamps)(stamps)

    def run(self, stamps: np.ndarray | Stamps, embedding: bool = False) -> tuple[np.ndarray, ...]:
        """`p_real` float32 (N,); with the embedding (N, E) if asked for, then both by PyTorch."""
        stamps = self.inputs.checked(stamps)
        if not embedding:
            return (self.p_real(stamps),)
        both = with_embedding(self.network)
        if both is None:
            raise UserError(f"{self.provenance.name} has no embedding; leave it out")
        check_judges(self._scorer)
        self.engine = "torch"
        p_real, parts = [], []
        with torch.inference_mode():
            for start in range(0, max(len(stamps), 1), _BATCH):
                tensors = self.inputs.tensors(stamps[slice(start, start + _BATCH)])
                logits, hidden = both(*(x.to(self._device) for x in tensors))
                p_real.append(self._scorer.probability(logits).cpu().numpy())
                parts.append(hidden.cpu().numpy())
        return np.concatenate(p_real), np.concatenate(parts)

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """`p_real` of `rows` (all by default) of a stamp set, read ahead piece by piece."""
        out = np.empty(len(stamp_set) if rows is None else len(rows), dtype=np.float32)
        predict: Predict | None = None
        for places, stamps in self.inputs.pieces(stamp_set, rows):
            predict = predict or self._engine(len(out), stamps)
            out[places] = predict(stamps)
        return out

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time of the network in PyTorch, see `NetworkScorer.timing`."""
        return self._scorer.timing(stamp_set, rows, **how)

    def note_on(self, stamp_set: StampSet) -> None:
        """A network is fed in the same way everywhere."""

    def _engine(self, n: int, stamps: Stamps) -> Predict:
        """What predicts `n` stamps, of which some are given."""
        if self._fastest is None and self._device.type == "cpu" and n >= _TRIAL:
            some = stamps[slice(_TRIAL)]
            started = time.perf_counter()
            expected = self._torch(some)
            each = (time.perf_counter() - started) / len(some)
            worth = _WORTH_A_KEPT_ONE_S if self._kept and self._kept.exists() else _WORTH_IT_S
            if self._spent_s + n * each >= worth:
                self._fastest = self._choose(some, expected)
            self._spent_s += n * each
        self.engine, predict = self._fastest or ("torch", self._torch)
        return predict

    @cached_property
    def _kept(self) -> Path | None:
        """Where the graph of the network is kept."""
        if self._cache is None:
            return None
        # The layers too: other ones may have the same weights.
        makers = f"{__version__} {torch.__version__} {self.network!r}"
        layers = hashlib.sha256(makers.encode()).hexdigest()[:16]
        return self._cache / "engines" / f"{weights_digest(self._scorer)[:16]}-{layers}.onnx"

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _torch(self, stamps: Stamps) -> np.ndarray:
        if self._device.type != "cpu":
            return self._scorer.p_real(stamps, 512)
        out = np.empty(len(stamps), np.float32)

        def part(rows: slice) -> None:
            out[rows] = self._scorer.p_real(stamps[rows])

        in_threads(part, len(stamps))
        return out

    def _choose(self, stamps: Stamps, expected: np.ndarray) -> tuple[str, Predict]:
        engines: dict[str, Predict] = {"torch": self._torch}
        for name, build in (("onnxruntime", self._onnxruntime), ("openvino", self._openvino)):
            try:
                predict = build()
                off = float(np.max(np.abs(predict(stamps) - expected), initial=0.0))
            except ImportError:
                self.refused[name] = "not installed"
            except UserError as error:
                self.refused[name] = str(error)
            except Exception as error:  # engines have no common base of errors
                self.refused[name] = f"failed ({type(error).__name__})"
            else:
                if off <= TOLERANCE:
                    engines[name] = predict
                else:
                    self.refused[name] = f"differs from torch by {off:.2g} in p_real"
        name = min(engines, key=lambda engine: _seconds(engines[engine], stamps))
        return name, engines[name]

    def _onnxruntime(self) -> Predict:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401

        with tempfile.TemporaryDirectory() as temporary:
            file = self._kept or Path(temporary) / "graph.onnx"
            why = file.with_suffix(".refused")
            try:
                return load_exported(file).p_real
            except UserError:  # not there yet, or damaged
                if why.exists():
                    raise UserError(why.read_text()) from None
            try:
                export(self._scorer, file)
            except UserError as error:
                write_whole(why, str(error).encode(), "why there is no graph")
                raise
            return load_exported(file).p_real

    def _openvino(self) -> Predict:
        import openvino

        # Without the scaling: OpenVINO computes in single precision throughout, which is not
        # enough for a bright star.
        sample = self.inputs.tensors(simulated(self.inputs, 2))
        shapes = [openvino.PartialShape([-1, *x.shape[1:]]) for x in sample]
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(self.network, example_input=sample, input=shapes)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": engine_threads(),
            "NUM_STREAMS": str(engine_threads()),  # see `in_threads`
        }
        model = openvino.compile_model(model, "CPU", settings)

        own = threading.local()

        def predict(stamps: Stamps) -> np.ndarray:
            out = np.empty(len(stamps), np.float32)

            def part(rows: slice) -> None:
                if not hasattr(own, "request"):
                    own.request = model.create_infer_request()
                tensors = self.inputs.tensors(stamps[rows])
                found = own.request.infer([x.numpy() for x in tensors])[0]
                out[rows] = self._scorer.probability(torch.from_numpy(found)).numpy()

            in_threads(part, len(stamps))
            return out

        return predict


def _seconds(predict: Predict, stamps: Stamps) -> float:
    best = np.inf
    for _ in range(4):
        started = time.perf_counter()
        predict(stamps)
        best = min(best, time.perf_counter() - started)
    return best
