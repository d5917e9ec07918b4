"""Contestants that run in the environment of `rb`: its own commands, and bare libraries."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmarks.speed.worker import serve

_BARE_BATCHES = (32, 64, 128, 256)


def _config(model: str, data: str, epochs: int, root: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir

    from rb.config import project_root, register_resolvers, resolved

    with contextlib.suppress(ValueError):  # registered before
        register_resolvers()
    with initialize_config_dir(str(project_root() / "conf"), version_base="1.3"):
        return resolved(
            compose(
                "train",
                [
                    f"model={model}", "data=stamps", f"data.path={data}", "split.val=0.2",
                    "split.test=0", f"trainer.max_epochs={epochs}", f"paths.root={root}",
                    "trainer.accelerator=cpu",
                ],
            )
        )  # fmt: skip


def train_py(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], dict]:
    """`train.py` with tracking, save points and validation; trained stamps a second."""
    from rich.console import Console

    from rb.tracking import Tracking
    from rb.training.job import train

    root = tempfile.mkdtemp(prefix="rb-speed-")
    config = _config(model, data, epochs, root)

    def run() -> dict:
        with open(os.devnull, "w") as nowhere:
            train(config, console=Console(file=nowhere))
        last = Tracking(None, config["paths"]["runs"], "rb").runs("training")[0].data
        n = int(last.params["n_train"]) * epochs
        return {"rate": n / last.metrics["cost/train_wall_s"]}

    return run


def bare_loop(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """The same network, recipe and validation in a loop of PyTorch, nothing kept."""
    from torch.nn import functional as F

    from rb.io.memory import keep_memory
    from rb.models.build import build_network, build_optimizer
    from rb.stamps import StampSet
    from rb.training.job import input_spec, split_of

    keep_memory()
    config, stamps = _config(model, data, epochs, "/nowhere"), StampSet.open(data)
    inputs, split = input_spec(config), split_of(stamps, config)
    size = config["trainer"]["batch_size"]
    parts = {}
    for subset in ("train", "val"):
        rows = split[subset]
        labels = torch.from_numpy(stamps.labels[rows].astype(np.int64))
        parts[subset] = inputs.prepare(stamps.stamps[rows]), labels
    network = build_network(config["model"]["network"], inputs)
    optimizer = build_optimizer(config["trainer"]["optimizer"], None, network.parameters())

    def run() -> float:
        for _ in range(epochs):
            network.train()
            x, labels = parts["train"]
            for rows in torch.randperm(len(x)).split(size):
                loss = F.cross_entropy(network(x[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            x, labels = parts["val"]
            with torch.no_grad():
                for rows in torch.arange(len(x)).split(500):
                    F.cross_entropy(network(x[rows]), labels[rows])
        return float(len(parts["train"][1]) * epochs)

    return run


def textbook(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """Textbook PyTorch: a Dataset of single stamps, a DataLoader, layers in the usual order."""
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, Dataset, Subset

    from rb.models.build import build_optimizer
    from rb.stamps import StampSet
    from rb.training.job import input_spec, split_of

    config, stamps = _config(model, data, epochs, "/nowhere"), StampSet.open(data)
    inputs, split = input_spec(config), split_of(stamps, config)

    class Stamps(Dataset):
        def __len__(self) -> int:
            return len(stamps)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return inputs.prepare(np.array(stamps.stamps[row : row + 1]))[0], int(
                stamps.labels[row]
            )

    layers: list[nn.Module] = []
    channels, _height, _width = inputs.shape
    description = config["model"]["network"]
    for layer in description["convolutions"]:
        layers += [nn.Conv2d(channels, layer["filters"], layer["kernel"]), nn.ReLU()]
        layers += [nn.MaxPool2d(layer["pool"])]
        layers += [nn.Dropout(layer["dropout"])] if layer.get("dropout") else []
        channels = layer["filters"]
    layers += [nn.Flatten(), nn.LazyLinear(description["dense"][0]), nn.ReLU(), nn.LazyLinear(2)]
    network = nn.Sequential(*layers)
    network(torch.zeros(1, *inputs.shape))
    optimizer = build_optimizer(config["trainer"]["optimizer"], None, network.parameters())
    size = config["trainer"]["batch_size"]
    train = DataLoader(Subset(Stamps(), split.train.tolist()), size, shuffle=True)
    val = DataLoader(Subset(Stamps(), split.val.tolist()), 500)

    def run() -> float:
        for _ in range(epochs):
            network.train()
            for x, labels in train:
                loss = F.cross_entropy(network(x), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                for x, labels in val:
                    F.cross_entropy(network(x), labels)
        return float(len(split.train) * epochs)

    return run


def scorer_score(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """`Scorer.score` of a stamp set: reading, scaling and the engine it has chosen."""
    import rb
    from rb.stamps import StampSet

    scorer, stamps = rb.load(checkpoint), StampSet.open(data)

    def run() -> float:
        while True:
            scorer.score(stamps)
            # The engine is chosen once enough time was spent in PyTorch.
            if run.about or scorer._fastest is not None:
                break
        run.about = {"engine": scorer.engine, "refused": scorer.refused}
        return float(len(stamps))

    run.about = {}
    return run


def rb_score(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """The job of `rb score` into Parquet, with the exported network."""
    import rb
    from rb.scoring.candidates import open_source
    from rb.scoring.job import ScoreJob
    from rb.scoring.load import model_digest
    from rb.scoring.table import ScoreTable

    file = _exported(checkpoint)
    scorer = rb.load(file)
    table = ScoreTable(scorer, model_digest(scorer, file))
    out = Path(tempfile.mkdtemp(prefix="rb-speed-")) / "scores.parquet"

    def run() -> float:
        source = open_source(Path(data), scorer.inputs)
        return float(ScoreJob(table, source, out, {}).run(overwrite=True, progress=False).rows)

    return run


def _exported(checkpoint: str) -> Path:
    import rb
    from rb.scoring.export import export

    file = Path(checkpoint).with_suffix(".onnx")
    if not file.exists():
        own = file.with_name(f"{file.stem}-{os.getpid()}.onnx")
        export(rb.load(checkpoint), own)
        os.replace(own, file)
    return file


def _prepared(data: str, checkpoint: str) -> tuple[Any, torch.Tensor]:
    from rb.models.checkpoint import load_checkpoint
    from rb.stamps import StampSet

    scorer, stamps = load_checkpoint(Path(checkpoint)), StampSet.open(data)
    return scorer, scorer.inputs.prepare(np.array(stamps.stamps))


def _fastest(predict: Callable[[int], Any], n: int) -> Callable[[], float]:
    """Predict in the batch size that suits best."""
    seconds = {}
    for size in _BARE_BATCHES:
        predict(size)
        started = time.perf_counter()
        predict(size)
        seconds[size] = time.perf_counter() - started
    best = min(seconds, key=lambda size: seconds[size])

    def run() -> float:
        predict(best)
        return float(n)

    run.about = {"batch": best}  # type: ignore[attr-defined]
    return run


def bare_torch(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """PyTorch on stamps that are scaled already and in memory."""
    scorer, x = _prepared(data, checkpoint)

    def predict(size: int) -> None:
        with torch.inference_mode():
            for part in x.split(size):
                scorer.network(part).softmax(1)

    return _fastest(predict, len(x))


def bare_onnxruntime(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """ONNX Runtime on raw stamps in memory; scaling is in the graph."""
    import onnxruntime

    from rb.stamps import StampSet

    session = onnxruntime.InferenceSession(_exported(checkpoint).read_bytes())
    stamps = np.array(StampSet.open(data).stamps)

    def predict(size: int) -> None:
        for start in range(0, len(stamps), size):
            session.run(["p_real"], {"stamps": stamps[start : start + size]})

    return _fastest(predict, len(stamps))


def bare_openvino(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """OpenVINO on stamps that are scaled already and in memory."""
    import openvino

    scorer, x = _prepared(data, checkpoint)
    shape = openvino.PartialShape([-1, *x.shape[1:]])
    with torch.no_grad():
        graph = openvino.convert_model(scorer.network, example_input=x[:2], input=[shape])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.compile_model(graph, "CPU", settings).create_infer_request()

    def predict(size: int) -> None:
        for part in x.split(size):
            request.infer([part.numpy()])

    return _fastest(predict, len(x))


def one_by_one(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """Single raw stamps through an exported model, as a stream of alerts brings them."""
    import rb

    return _singly(rb.load(_exported(checkpoint)), data)


def one_by_one_torch(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """Single raw stamps through the checkpoint in PyTorch."""
    from rb.models.checkpoint import load_checkpoint

    return _singly(load_checkpoint(Path(checkpoint)), data)


def _singly(scorer: Any, data: str) -> Callable[[], float]:
    from rb.stamps import StampSet

    stamps = np.array(StampSet.open(data).stamps[:200])

    def run() -> float:
        for row in range(len(stamps)):
            scorer.p_real(stamps[row : row + 1])
        return float(len(stamps))

    return run


def gemm(model: str, data: str, epochs: int, checkpoint: str) -> Callable[[], float]:
    """Product of two matrices in single precision: FLOP a second that this machine can do."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)

    def run() -> float:
        for _ in range(8):
            torch.mm(a, b)
        return 8 * 2 * 2048.0**3

    return run


def flop(checkpoint: str) -> tuple[float, float]:
    """FLOP a stamp: of a prediction, and of a training step, as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    from rb.models.checkpoint import load_checkpoint

    scorer = load_checkpoint(Path(checkpoint))
    x = torch.zeros(1, *scorer.inputs.shape)
    found = []
    for train in (False, True):
        with FlopCounterMode(display=False) as counter:
            output = scorer.network(x)
            if train:
                output.sum().backward()
        found.append(float(counter.get_total_flops()))
    return found[0], found[1]


CONTESTANTS = {
    "train.py": train_py,
    "bare loop": bare_loop,
    "textbook DataLoader": textbook,
    "Scorer.score": scorer_score,
    "rb score": rb_score,
    "torch, prepared": bare_torch,
    "ONNX Runtime, raw": bare_onnxruntime,
    "OpenVINO, prepared": bare_openvino,
    "exported model": one_by_one,
    "torch": one_by_one_torch,
    "gemm": gemm,
}

if __name__ == "__main__":
    if sys.argv[1] == "flop":
        parser = argparse.ArgumentParser()
        parser.add_argument("checkpoint")
        print(*flop(parser.parse_args(sys.argv[2:]).checkpoint))
    else:
        serve(CONTESTANTS)
