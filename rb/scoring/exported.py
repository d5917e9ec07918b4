"""A model in an ONNX file, run by ONNX Runtime: needs neither torch nor anything else heavy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.workers import in_threads
from rb.models.contract import Provenance, checked_threshold
from rb.stamps.batch import Stamps, as_pixels
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import VARIANCES

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rb.stamps import StampSet

METADATA = "rb"
"""Key of the file's metadata that holds all that is known of the model, as JSON."""

FORMAT = 2
_MOST_BYTES = 2 << 30  # of a file: what protobuf allows
_MOST_SIDE = 1024  # pixels along a side of a stamp


@dataclass(frozen=True, eq=False)
class ExportedScorer:
    """An exported model with its engine; a `Scorer`.

    Parameters
    ----------
    session : InferenceSession
        Of ONNX Runtime.
    inputs : InputSpec
        What it is fed; scaling is inside the graph.
    threshold : float
        Candidates with `p_real` at or above it are called real.
    provenance : Provenance
        Where it comes from.
    n_parameters : int
        Number of trained weights.
    digest : str
        SHA-256 of the file.
    embedding_size : int
        Width of the last hidden layer; 0 where the file does not give it.
    weights_digest : str
        SHA-256 over the weights of the network that was exported.
    """

    session: Any
    inputs: InputSpec
    threshold: float
    provenance: Provenance
    n_parameters: int
    digest: str
    embedding_size: int = 0
    weights_digest: str = ""
    network: None = None
    engine: str = "onnxruntime"

    def run(self, stamps: np.ndarray | Stamps, embedding: bool = False) -> tuple[np.ndarray, ...]:
        """`p_real` float32 (N,) and, if asked for, the embedding (N, E).

        Raises
        ------
        UserError
            If the stamps have another shape, lack what goes beside them, or there is no embedding.
        """
        stamps = self.inputs.checked(stamps)
        names = ["p_real", *(["embedding"] if embedding else [])]
        if embedding and not self.embedding_size:
            raise UserError(f"{self.provenance.name} has no embedding; leave it out")
        out = [np.empty(len(stamps), np.float32)]
        if embedding:
            out.append(np.empty((len(stamps), self.embedding_size), np.float32))

        def predict(rows: slice) -> None:
            found = self.session.run(names, fed(self.inputs, stamps[rows]))
            for array, part in zip(out, found, strict=True):
                array[rows] = part

        in_threads(predict, len(stamps))
        return tuple(out)

    def p_real(self, stamps: np.ndarray | Stamps) -> np.ndarray:
        """Probability of being real, float32 (N,), of raw stamps (N, 3, S, S)."""
        return self.run(stamps)[0]

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """`p_real` of `rows` (all by default) of a stamp set, read ahead piece by piece."""
        out = np.empty(len(stamp_set) if rows is None else len(rows), dtype=np.float32)
        for places, stamps in self.inputs.pieces(stamp_set, rows):
            out[places] = self.p_real(stamps)
        return out

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time from raw stamps on, for each batch size: scaling cannot be left out."""
        from rb.metrics.timing import time_prediction

        whole = time_prediction(self.p_real, stamp_set.read(rows, self.inputs), **how)
        names = ("ms_per_stamp", "mad", "cpu_ms_per_stamp")
        return whole.assign(**{f"{name}_with_scaling": whole[name] for name in names})

    def note_on(self, stamp_set: StampSet) -> None:
        """A graph is fed in the same way everywhere."""


def fed(inputs: InputSpec, stamps: Stamps) -> dict[str, np.ndarray]:
    """The arrays that an exported graph is fed, by name."""
    arrays = {"stamps": as_pixels(stamps.images)}
    if set(inputs.channels) & set(VARIANCES):
        if stamps.variance is None:
            raise UserError("the model takes variances, but the stamps came without them")
        arrays["variance"] = as_pixels(stamps.variance)
    side = inputs.side_vector(stamps)
    return arrays if side is None else arrays | {"side": side}


def load_exported(path: Path, cache: Path | None = None) -> ExportedScorer:
    """Open an exported model. Nothing in the file is executed but its graph.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file.
    cache : Path, optional
        Of no use here.

    Raises
    ------
    UserError
        If the file is missing, damaged, not one of ours, or promises what it does not hold.
    """
    try:
        if os.stat(path).st_size > _MOST_BYTES:
            raise UserError(f"{path}: is larger than an ONNX file can be; export the model again")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such model") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return open_exported(path, content)


def open_exported(path: Path, content: bytes) -> ExportedScorer:
    """`load_exported` of a file's content; `path` is for messages."""
    session = _session(path, content)
    try:
        about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        if about["format"] != FORMAT:
            raise UserError(
                f"{path}: exported in format {about['format']}, this version reads {FORMAT}; "
                "export the model again"
            )
        graph = about["graph"]
        if signed(about) != about or (
            hashlib.sha256(content[: int(graph["bytes"])]).hexdigest() != graph["sha256"]
        ):
            raise UserError(f"{path}: damaged, it is not what was written; export the model again")
        inputs = InputSpec(**about["inputs"])
        scorer = ExportedScorer(
            session,
            inputs,
            checked_threshold(about["threshold"]),
            Provenance.from_dict(about["provenance"]),
            int(about["n_parameters"]),
            hashlib.sha256(content).hexdigest(),
            _checked_graph(session, inputs),
            str(about["weights_digest"]),
        )
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not a model that `rb export` wrote, or not what it says it is; export the "
            "model again"
        ) from error
    return scorer


def signed(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of itself, with the digest of it."""
    rest = {key: value for key, value in about.items() if key != "digest"}
    return rest | {"digest": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def _session(path: Path, content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: needs the package onnxruntime; pip install 'rb[score]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.intra_op_num_threads = 1  # see `in_threads`
    # The bytes, not the path, and a folder that cannot be: weights that a file claims to have
    # elsewhere are not looked for.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime has a type of its own for each kind of damage
        raise UserError(
            f"{path}: damaged, or no ONNX file ({type(error).__name__}); export the model again"
        ) from error


def _checked_graph(session: Any, inputs: InputSpec) -> int:
    """Width of the embedding; ValueError if the graph is not what the metadata say."""
    if max(inputs.size, inputs.psf_size) > _MOST_SIDE:
        raise ValueError("size")
    pixels = [3, inputs.size, inputs.size]
    expected = {"stamps": pixels}
    if set(inputs.channels) & set(VARIANCES):
        expected["variance"] = pixels
    if inputs.side:
        expected["side"] = [inputs.n_side]
    graph_inputs = {i.name: (i.type, list(i.shape[1:])) for i in session.get_inputs()}
    if graph_inputs != {name: ("tensor(float)", shape) for name, shape in expected.items()}:
        raise ValueError("inputs")
    names = [output.name for output in session.get_outputs()]
    if names not in (["p_real"], ["p_real", "embedding"]):
        raise ValueError("outputs")
    zeros = {name: np.zeros((2, *shape), np.float32) for name, shape in expected.items()}
    try:
        out = session.run(names, zeros)
    except Exception as error:
        raise ValueError("does not run") from error
    if out[0].shape != (2,) or out[0].dtype != np.float32 or not 0 <= out[0][0] <= 1:
        raise ValueError("p_real")
    if len(out) > 1 and (out[1].ndim != 2 or len(out[1]) != 2):
        raise ValueError("embedding")
    return out[1].shape[1] if len(out) > 1 else 0
