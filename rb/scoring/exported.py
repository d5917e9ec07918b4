"""A model in an ONNX file, run by ONNX Runtime: needs neither torch nor anything else heavy."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.models.contract import Provenance, checked_threshold
from rb.stamps.batch import Stamps, as_pixels
from rb.stamps.layout import CHANNELS, SIDE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rb.stamps import StampSet

METADATA = "rb"
"""Key of the file's metadata that holds all that `rb` knows of the model, as JSON."""
FORMAT = 1
_READ = 4096  # stamps read from the disk at once
_BATCH = 256  # stamps in a call of the engine
_MOST_BYTES = 2 << 30  # of a file: what protobuf allows


@dataclass(frozen=True)
class ExportedInputs:
    """What an exported model is fed, out of its file.

    Parameters
    ----------
    channels : sequence of str
        Images that it looks at; raw stamps are fed with all three, in the order diff, srch, tmpl.
    size : int
        Pixels along a side of a stamp.
    side : sequence of str
        Side information, in the order of the second input.
    psf_size : int
        Pixels along a side of a PSF, where `psf` is among `side`.
    """

    channels: tuple[str, ...]
    size: int
    side: tuple[str, ...] = ()
    psf_size: int = 0
    stacking: str = "depth"

    @property
    def kind(self) -> str:
        """`dia` if the difference image is among the channels, else `nodia`."""
        return "dia" if "diff" in self.channels else "nodia"

    def check(self, stamp_set: StampSet) -> None:
        """Raise UserError if a stamp set cannot feed the model."""
        where = stamp_set.path.name
        missing = [c for c in self.channels if c not in stamp_set.channels]
        missing += [c for c in self.side if c != "psf" and c not in stamp_set.column_names]
        if "psf" in self.side and stamp_set.psf is None:
            missing.append("psf.npy")
        if missing:
            raise UserError(f"{where}: the model needs {', '.join(missing)}; choose other data")
        if stamp_set.stamp_size != self.size:
            raise UserError(
                f"{where}: the model takes stamps of {self.size} px, these have "
                f"{stamp_set.stamp_size}; choose a model for that size"
            )


@dataclass(frozen=True, eq=False)
class ExportedScorer:
    """An exported model with its engine; a `Scorer`.

    Parameters
    ----------
    session : InferenceSession
        Of ONNX Runtime.
    inputs : ExportedInputs
        What it is fed.
    threshold : float
        Candidates with `p_real` at or above it are called real.
    provenance : Provenance
        Where it comes from.
    n_parameters : int
        Number of trained weights.
    """

    session: Any
    inputs: ExportedInputs
    threshold: float
    provenance: Provenance
    n_parameters: int
    network: None = None

    def run(self, stamps: np.ndarray | Stamps, embedding: bool = False) -> tuple[np.ndarray, ...]:
        """`p_real` float32 (N,) and, if asked for, the embedding (N, E).

        Raises
        ------
        UserError
            If the stamps have another shape, lack side information, or there is no embedding.
        """
        stamps = Stamps.of(stamps)
        size = self.inputs.size
        if stamps.images.shape[1:] != (len(CHANNELS), size, size):
            raise UserError(
                f"stamps have shape {stamps.images.shape}, the model takes (N, 3, {size}, {size})"
            )
        names = ["p_real", *(["embedding"] if embedding else [])]
        if embedding and "embedding" not in {o.name for o in self.session.get_outputs()}:
            raise UserError(f"{self.provenance.name} has no embedding; leave it out")
        parts = []
        for start in range(0, len(stamps), _BATCH):
            some = stamps[slice(start, start + _BATCH)]
            feed = {"stamps": as_pixels(some.images)}
            if self.inputs.side:
                feed["side"] = self._side(some)
            parts.append(self.session.run(names, feed))
        if not parts:
            return tuple(np.empty(0, np.float32) for _ in names)
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def _side(self, stamps: Stamps) -> np.ndarray:
        columns = []
        for name in self.inputs.side:
            values = stamps.psf if name == "psf" else stamps.side.get(name)
            if values is None:
                raise UserError(f"the model takes {name}, but the stamps came without it")
            columns.append(as_pixels(values).reshape(len(stamps), -1))
        return np.concatenate(columns, 1)

    def p_real(self, stamps: np.ndarray | Stamps) -> np.ndarray:
        """Probability of being real, float32 (N,), of raw stamps (N, 3, S, S)."""
        return self.run(stamps)[0]

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """`p_real` of `rows` (all by default) of a stamp set, read piece by piece."""
        self.inputs.check(stamp_set)
        rows = np.arange(len(stamp_set)) if rows is None else np.asarray(rows)
        out = np.empty(len(rows), dtype=np.float32)
        order = np.argsort(rows)
        for start in range(0, len(rows), _READ):
            part = order[start : start + _READ]
            out[part] = self.p_real(stamp_set.read(rows[part], self.inputs))
        return out

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time from raw stamps on, for each batch size."""
        from rb.metrics.timing import time_prediction

        return time_prediction(self.p_real, stamp_set.read(rows, self.inputs), **how)

    def note_on(self, stamp_set: StampSet) -> None:
        """A graph is fed in the same way everywhere."""


def load_exported(path: Path, cache: Path | None = None, threads: int = 0) -> ExportedScorer:
    """Open an exported model. Nothing in the file is executed but its graph.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file.
    cache : Path, optional
        Of no use here.
    threads : int
        Of the engine; 0 for as many as there are cores.

    Raises
    ------
    UserError
        If the file is missing, damaged, not one of ours, or promises what it does not hold.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: needs onnxruntime; pip install 'rb[score]'") from None
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if size > _MOST_BYTES:
        raise UserError(f"{path}: is larger than an ONNX file can be; export the model again")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.intra_op_num_threads = threads
    try:
        # The bytes, not the path: weights that lie outside of the file are not followed.
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a type of its own for each kind of damage
        raise UserError(f"{path}: damaged, or no ONNX file ({type(error).__name__})") from error
    try:
        about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        if about["format"] != FORMAT:
            raise UserError(
                f"{path}: exported in format {about['format']}, this version reads {FORMAT}; "
                "export the model again"
            )
        inputs = ExportedInputs(
            tuple(about["channels"]), about["size"], tuple(about["side"]), about["psf_size"]
        )
        scorer = ExportedScorer(
            session,
            inputs,
            checked_threshold(about["threshold"]),
            Provenance.from_dict(about["provenance"]),
            int(about["n_parameters"]),
        )
        _check(session, inputs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a model that `rb export` wrote") from error
    return scorer


def _check(session: Any, inputs: ExportedInputs) -> None:
    """Raise ValueError if the graph is not what the metadata say."""
    known = {"stamps": [3, inputs.size, inputs.size]}
    if inputs.side:
        pixels = 2 * inputs.psf_size**2
        known["side"] = [sum(pixels if s == "psf" else 1 for s in inputs.side)]
    there = {i.name: list(i.shape[1:]) for i in session.get_inputs()}
    if there != known or not set(inputs.channels) <= set(CHANNELS):
        raise ValueError
    if not set(inputs.side) <= {*SIDE_COLUMNS, "psf"} or session.get_outputs()[0].name != "p_real":
        raise ValueError
