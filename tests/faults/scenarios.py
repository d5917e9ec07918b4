"""What is killed and taken up again: commands on tiny data, and what has to come of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

TINY = [
    "trainer=quick", "trainer.accelerator=cpu", "trainer.save_every_s=0", "split.val=20",
    "split.test=20", "model.network.convolutions=[{filters: 2, kernel: 5, pool: 4, dropout: 0.4}]",
    "model.network.dense=[4]",
]  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """A command, and how its outcome is told.

    Parameters
    ----------
    name : str
        For the table.
    prepare : callable
        Makes what the command needs in a folder.
    words : callable
        The command for a folder.
    outcome : callable
        What has come of it in a folder, in types of JSON; what is left behind that should not be,
        too.
    again : callable, optional
        The command to go on with, if it is another one.
    """

    name: str
    prepare: Callable[[Path], None]
    words: Callable[[Path], list[str]]
    outcome: Callable[[Path], Any]
    again: Callable[[Path], list[str]] | None = None


def digest(value: bytes) -> str:
    """Short SHA-256."""
    return hashlib.sha256(value).hexdigest()[:16]


def _set(folder: Path) -> None:
    from toys import write_set

    write_set(folder / "set", 100)


def _training(folder: Path, *more: str) -> list[str]:
    return [
        "train.py", *more, *TINY, "data=stamps", f"data.path={folder / 'set'}",
        f"paths.root={folder}",
    ]  # fmt: skip


def _runs(folder: Path) -> Any:
    from rb.tracking import Tracking

    return Tracking(None, folder / "mlruns", "rb")


def _weights(file: Path) -> str:
    import torch

    state = torch.load(file, weights_only=True)["state_dict"]
    return digest(b"".join(k.encode() + v.numpy().tobytes() for k, v in sorted(state.items())))


def trained(folder: Path) -> Any:
    """Weights of the finished trainings, and whether each epoch is recorded once."""
    tracking = _runs(folder)
    found = {}
    for run in tracking.runs("training"):
        if run.info.status != "FINISHED":
            continue
        place = tracking.checkpoints(run.info.run_id)
        steps = [m.step for m in tracking.client.get_metric_history(run.info.run_id, "val/loss")]
        best = tracking.client.get_metric_history(run.info.run_id, "best/val_acc")
        files = [f.path for f in tracking.client.list_artifacts(run.info.run_id, "checkpoint")]
        found[run.info.run_name] = {
            "last": _weights(place / "last.ckpt"),
            "best": _weights(place / "best.ckpt"),
            "epochs": sorted(steps),
            "summaries": len(best),
            "kept": files,
        }
    running = [r.info.run_name for r in tracking.runs() if r.info.status == "RUNNING"]
    finished = [r.info.run_name for r in tracking.runs("training") if r.info.status == "FINISHED"]
    return {"trained": found, "running": running, "finished": sorted(finished)}


def _resume(folder: Path) -> list[str]:
    """`run=ID` where the run has got so far that it can be taken up."""
    if (folder / "mlruns" / "mlflow.db").exists():
        from rb.tracking import SAVED_CONFIG_TAG

        for run in _runs(folder).runs("training"):
            if SAVED_CONFIG_TAG in run.data.tags:
                return ["train.py", f"run={run.info.run_id}", f"paths.root={folder}"]
    return _training(folder, "model=nodia", "trainer.max_epochs=6")


def _built(folder: Path) -> Any:
    """Sets in the cache, by content; and what is left beside them."""
    from rb.stamps import StampSet

    cache = folder / ".cache"
    sets, left = [], []
    for meta in sorted(cache.rglob("meta.json")):
        stamps = StampSet.open(meta.parent)
        stamps.verify()
        sets.append(stamps.stamps_digest)
    for path in cache.rglob("*"):
        hidden = path.name.startswith(".") and not path.name.endswith(".lock")
        if hidden or ".building" in path.name:
            left.append(path.name)
    return {"sets": sorted(set(sets)), "left": left}


def _simulated(folder: Path) -> list[str]:
    return ["build", f"data.cache={folder / '.cache'}", "data.candidates=60", "data.seed=3"]


def _alert_files(folder: Path) -> None:
    from alert_makers import write, ztf_file

    for number in range(150):
        write(folder / "alerts", f"{number:04d}.avro", ztf_file(number + 1))


def _alerts(folder: Path) -> list[str]:
    return [
        "build", "data=alerts", f"data.root={folder / 'alerts'}", f"data.cache={folder / '.cache'}",
    ]  # fmt: skip


def _des_files(folder: Path) -> None:
    from des_files import archive

    archive.write_archive(folder / "des", 120, shards=2)


def _des(folder: Path) -> list[str]:
    return [
        "build", "data=des", f"data.root={folder / 'des'}", f"data.cache={folder / '.cache'}",
        "data.processes=1",
    ]  # fmt: skip


def _stack(folder: Path) -> None:
    from exported import exported
    from toys import toy_stamps

    stamps, _ = toy_stamps(60)
    np.save(folder / "stack.npy", np.concatenate([stamps] * 20))
    shutil.copy(exported()[1], folder / "model.onnx")
    shutil.copy(exported()[0], folder / "model.ckpt")


def _score(data: str, batch: int, folder: Path) -> list[str]:
    return [
        "rb", "score", str(folder / data), "--model", str(folder / "model.onnx"), "--out",
        str(folder / "scores.parquet"), "--batch", str(batch), "--quiet",
    ]  # fmt: skip


def _scored(folder: Path) -> Any:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "scores.parquet")
    left = [p.name for p in folder.glob(".scores*") if not p.name.endswith(".lock")]
    rows = json.dumps(table.drop_columns("p_real").to_pydict(), sort_keys=True)
    p_real = np.round(table["p_real"].to_numpy(), 5).tobytes()
    return {"rows": len(table), "content": digest(rows.encode() + p_real), "left": left}


def _stack_and_alerts(folder: Path) -> None:
    _stack(folder)
    _alert_files(folder)


def _export(folder: Path) -> list[str]:
    return [
        "rb", "export", str(folder / "model.ckpt"), "--out", str(folder / "made.onnx"),
        "--overwrite",
    ]  # fmt: skip


def _was_exported(folder: Path) -> Any:
    from rb.scoring.exported import load_exported

    model = load_exported(folder / "made.onnx")
    left = [p.name for p in folder.iterdir() if "made" in p.name and p.name != "made.onnx"]
    return {"parameters": model.n_parameters, "left": left}


def _trained_pair(folder: Path) -> None:
    import harness

    _set(folder)
    code = harness.run(_training(folder, "-m", "model=dia,nodia", "trainer.max_epochs=2"), folder)
    assert code == 0, "the pair was not trained"


def _evaluate(folder: Path) -> list[str]:
    return ["evaluate.py", "timing=false", f"paths.root={folder}"]


def _evaluated(folder: Path) -> Any:
    tracking = _runs(folder)
    pages = []
    for run in tracking.runs("evaluation"):
        if run.info.status == "FINISHED":
            files = {f.path for f in tracking.client.list_artifacts(run.info.run_id)}
            pages.append({"report.html", "comparison.csv"} <= files)
    accuracies = {
        r.info.run_name: round(r.data.metrics["test/accuracy"], 6)
        for r in tracking.runs("training")
    }
    running = [r.info.run_name for r in tracking.runs() if r.info.status == "RUNNING"]
    # One that was not disturbed after all is there beside that which is made again.
    return {"pages": bool(pages) and all(pages), "accuracies": accuracies, "running": running}


def _frames(folder: Path) -> list[str]:
    return [
        "build", "data=frames", f"data.cache={folder / '.cache'}", "data.frames=3", "data.tile=128",
        "data.scene.frame_size=256", "data.scene.star_density=20", "data.scene.sn_per_frame=12",
        "data.processes=1",
    ]  # fmt: skip


def _pairs(folder: Path) -> None:
    from dense import write_checkpoint, write_pair

    write_checkpoint(folder / "search.ckpt")
    pair = write_pair(folder / "frame")
    for kind, file in zip(("search", "template"), pair, strict=False):
        (folder / kind).mkdir()
        for number in range(3):
            shutil.copy(file, folder / kind / f"{number}.fits")


def _scan(folder: Path) -> list[str]:
    return [
        "rb", "scan", str(folder / "search"), str(folder / "template"), "--out",
        str(folder / "finds"), "--model", str(folder / "search.ckpt"), "--quiet",
    ]  # fmt: skip


def _was_scanned(folder: Path) -> Any:
    import pandas as pd

    files = sorted(p.name for p in (folder / "finds").iterdir())
    tables = [pd.read_parquet(folder / "finds" / f) for f in files if f.endswith(".parquet")]
    return {"files": files, "finds": [[len(t), round(float(t.flux.sum()), 1)] for t in tables]}


SCENARIOS = (
    Scenario(
        "training",
        _set,
        lambda folder: _training(folder, "model=nodia", "trainer.max_epochs=6"),
        trained,
        _resume,
    ),
    Scenario(
        "sweep",
        _set,
        lambda folder: _training(folder, "-m", "model=dia,nodia", "trainer.max_epochs=2"),
        trained,
    ),
    Scenario("simulation", lambda folder: None, _simulated, _built),
    Scenario("alerts into a set", _alert_files, _alerts, _built),
    Scenario("DES archive into a set", _des_files, _des, _built),
    Scenario("scoring a stack", _stack, partial(_score, "stack.npy", 50), _scored),
    Scenario("scoring alerts", _stack_and_alerts, partial(_score, "alerts", 10), _scored),
    Scenario("frames into tiles", lambda folder: None, _frames, _built),
    Scenario("scanning a folder", _pairs, _scan, _was_scanned),
    Scenario("export", _stack, _export, _was_exported),
    Scenario("evaluation", _trained_pair, _evaluate, _evaluated),
)
