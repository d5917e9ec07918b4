"""Write a network as an ONNX file that needs nothing of ours: raw stamps in, `p_real` out.

The file is held against the network before it is written, on stamps and on what is worse than
stamps; where the two differ there is no file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rb.errors import UserError
from rb.io.files import write_whole
from rb.models.checkpoint import NetworkScorer
from rb.models.contract import Scorer, check_judges
from rb.scoring.exported import FORMAT, METADATA, ExportedScorer, fed, open_exported, signed
from rb.scoring.graph import ScoringGraph, with_embedding
from rb.scoring.trial import trial_stamps
from rb.stamps.batch import Stamps
from rb.stamps.layout import CHANNELS, VARIANCES
from rb.version import __version__

TOLERANCE = 1e-5
"""Largest difference of `p_real` between a network and what was made of it."""

_OPSET = 18


def export(scorer: Scorer, target: Path, stamps: Stamps | None = None) -> dict[str, Any]:
    """Write the model as ``.onnx``; gives what the file says of itself.

    Parameters
    ----------
    scorer : Scorer
        A model with a network inside.
    target : Path
        The file; one of this name is replaced.
    stamps : Stamps, optional
        Real ones that file and network have to agree on; simulated ones by default.

    Raises
    ------
    UserError
        If the model cannot be exported, or file and network differ. Nothing is written then.
    """
    check_judges(scorer)
    if scorer.network is None:
        raise UserError(
            f"{scorer.provenance.name} works on {scorer.inputs.kind} and has no network inside, or "
            "is exported already; export a network"
        )
    network = network_scorer(scorer)
    about = description(network)
    proto = _graph(network)
    about["checked"] = {"on": "simulated" if stamps is None else "real", "tolerance": TOLERANCE}
    exported = open_exported(target, _content(proto, about))
    worst = 0.0
    for case, some in trial_stamps(network.inputs, stamps):
        worst = max(worst, _difference(network, exported, some, case, target))
    about["checked"]["largest_difference"] = worst
    write_whole(target, _content(proto, about), "the exported model")
    return about


def network_scorer(scorer: Scorer) -> NetworkScorer:
    """The network of a scorer with all that belongs to it, without an engine."""
    assert scorer.network is not None
    return NetworkScorer(
        scorer.network,
        scorer.inputs,  # type: ignore[arg-type]
        scorer.threshold,
        scorer.provenance,
        getattr(scorer, "temperature", None),
    )


def weights_digest(scorer: NetworkScorer) -> str:
    """SHA-256 over a network's weights, its calibration and what it is fed."""
    rest = [scorer.inputs.to_dict(), scorer.temperature]
    found = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name, value in scorer.network.state_dict().items():
        found.update(name.encode())
        found.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return found.hexdigest()


def description(scorer: NetworkScorer) -> dict[str, Any]:
    """What an exported file says of itself, in types of JSON."""
    inputs, provenance = scorer.inputs, scorer.provenance
    size, trained = inputs.size, provenance.training_set
    raw = any(scaling == "raw" for scaling in inputs.scaling.values())
    units = f"those of the training set ({trained.name if trained else 'not known'})"
    images = {"shape": ["N", 3, size, size], "dtype": "float32"}
    arrays: list[dict[str, Any]] = [
        {
            "name": "stamps",
            **images,
            "order": list(CHANNELS),
            "units": units if raw else "any: each image is scaled by its own pixels, in the graph",
            "missing": "NaN",
        }
    ]
    if set(inputs.channels) & set(VARIANCES):
        square = f"the square of the stamps' units, {units}"
        arrays.append({"name": "variance", **images, "order": list(VARIANCES), "units": square})
    if inputs.side:
        arrays.append(
            {
                "name": "side",
                "shape": ["N", inputs.n_side],
                "dtype": "float32",
                "order": list(inputs.side),
                "units": units,
                "missing": "NaN",
            }
        )
    return {
        "format": FORMAT,
        "arrays": arrays,
        "inputs": inputs.to_dict(),
        "labels": provenance.labels,
        "p_real": "probability of being real, the positive class",
        "threshold": scorer.threshold,
        "calibration": scorer.temperature and {"temperature": scorer.temperature},
        "weights_digest": weights_digest(scorer),
        "n_parameters": scorer.n_parameters,
        "provenance": provenance.to_dict(),
        "licence": provenance.licence,
        "exported_by": f"rb {__version__}",
    }


def _graph(scorer: NetworkScorer) -> Any:
    """The network with its scaling as an ONNX model."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"exporting needs the package {error.name}; pip install 'rb[export]'"
        ) from None
    _, some = next(trial_stamps(scorer.inputs))
    sample = {name: torch.from_numpy(v) for name, v in fed(scorer.inputs, some[slice(2)]).items()}
    n = torch.export.Dim("n", min=1, max=2**31 - 1)  # PyTorch 2.7 wants an end
    graph = ScoringGraph(scorer).eval()
    names = ["p_real", *(["embedding"] if with_embedding(scorer.network) else [])]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                kwargs=sample,
                dynamo=True,
                opset_version=_OPSET,
                input_names=list(sample),
                output_names=names,
                dynamic_shapes={name: {0: n} for name in sample},
                verbose=False,
            )
    except Exception as error:  # torch's answers to what it cannot export have no common base
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"{scorer.provenance.name}: the network cannot be exported ({why[:200]})"
        ) from error
    finally:
        logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    # Where each operation was written, with paths of this machine.
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, proto.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto


def _content(proto: Any, about: dict[str, Any]) -> bytes:
    """The file: the graph, then what it says of itself, with the digests of both.

    Messages of protobuf that follow each other are one message; so whoever has no other reader than
    ONNX Runtime can tell where the graph ends, and whether it is what was written.
    """
    import onnx

    del proto.metadata_props[:]
    proto.producer_name = "rb"
    proto.producer_version = __version__
    graph = proto.SerializeToString()
    about = about | {"graph": {"bytes": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}}
    rest = onnx.ModelProto()
    rest.metadata_props.add(key=METADATA, value=json.dumps(signed(about), sort_keys=True))
    return graph + bytes(rest.SerializeToString())


def _difference(
    network: NetworkScorer, exported: ExportedScorer, stamps: Stamps, case: str, target: Path
) -> float:
    """Largest difference on `stamps`; UserError if it is too large."""
    expected, found = network.p_real(stamps), exported.p_real(stamps)
    known = np.isfinite(expected)  # raw pixels can be more than a network can add up
    off = np.abs(expected - found)[known]
    if len(off) and not np.all(off <= TOLERANCE):
        raise UserError(
            f"{target}: not written, because it differs from the network by {np.max(off):.2g} in "
            f"p_real on {case} stamps (more than {TOLERANCE:g})"
        )
    both = with_embedding(network.network)
    if both is not None:
        hidden = both(*network.inputs.tensors(stamps))[1].detach().numpy()
        given = exported.run(stamps, embedding=True)[1]
        if not np.allclose(hidden[known], given[known], rtol=1e-4, atol=1e-4, equal_nan=True):
            raise UserError(
                f"{target}: not written, because its embedding differs from that of the network "
                f"on {case} stamps"
            )
    return float(off.max(initial=0.0))


def real_stamps(folder: Path, inputs: Any, n: int = 256) -> Stamps:
    """A few stamps of a set for a check, from all of it."""
    from rb.stamps.stampset import StampSet

    stamp_set = StampSet.open(folder)
    inputs.check(stamp_set)
    rows = np.unique(np.linspace(0, len(stamp_set) - 1, n).astype(int))
    return stamp_set.read(rows, inputs)
