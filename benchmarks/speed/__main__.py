"""How fast it is, beside what else does the same, in one go.

    make bench
    python -m benchmarks.speed --rounds 3 --stamps 4000

Every contestant is a process; those of a group take turns, round after round, so that a machine
whose speed drifts slows all alike. Random stamps: the time does not depend on them. Keras runs in
an environment of its own (`benchmarks/.peers`), with oneDNN. The figures are kept in
`benchmarks/results/speed/` with machine and commit; `docs/speed.md` is their history.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS = ROOT / "benchmarks" / ".peers"
PEER_PACKAGES = ("tensorflow-cpu",)
sys.path.insert(0, str(ROOT))

OURS = ("train.py", "Scorer.score", "rb score", "exported model")
GROUPS = {
    "training": ("train.py", "bare loop", "textbook DataLoader", "Keras fit"),
    "prediction": (
        "Scorer.score", "rb score", "torch, prepared", "ONNX Runtime, raw", "OpenVINO, prepared",
        "Keras predict",
    ),
    "one at a time": ("exported model", "torch", "Keras"),
}  # fmt: skip
_EPOCHS = {"dia": 1, "nodia": 5}  # for rounds of like length
_PEERS = ("Keras fit", "Keras predict", "Keras")


@dataclass
class Contestant:
    """A process that is ready to run when it is told."""

    name: str
    process: subprocess.Popen[str]
    rates: list[float] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    missing: str = ""

    @classmethod
    def start(cls, name: str, settings: dict[str, Any]) -> Contestant:
        """Start one; it is asked whether it is ready by `wait`."""
        peer = name in _PEERS
        python = PEERS / "bin" / "python" if peer else Path(sys.executable)
        script = HERE / ("peers.py" if peer else "ours.py")
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
        process = subprocess.Popen(
            [str(python), str(script), name, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | quiet, cwd=ROOT,
        )  # fmt: skip
        return cls(name, process)

    def wait(self) -> bool:
        """Until it is ready; False if it cannot run here."""
        said = self._answer()
        self.about, self.missing = said.get("about", {}), said.get("missing", "")
        return not self.missing

    def go(self) -> None:
        """One round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.rates.append(self._answer()["rate"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended without an answer; run it by hand to see why")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """Stop it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def prepare(folder: Path, model: str, n: int) -> dict[str, Any]:
    """A stamp set, an untrained checkpoint, and arrays for those who do not know stamp sets."""
    import numpy as np
    import pandas as pd
    import torch
    from hydra import compose, initialize_config_dir

    from rb.config import project_root, register_resolvers, resolved
    from rb.models.classifier import Classifier
    from rb.models.contract import Provenance
    from rb.stamps import StampSet, StampSetWriter
    from rb.training.job import split_of

    path = folder / "set"
    if not path.exists():
        rng = np.random.default_rng(0)
        with StampSetWriter(path, source="random", parameters={"n": n}) as writer:
            for start in range(0, n, 1000):
                ids = np.arange(start, min(start + 1000, n))
                stamps = rng.normal(size=(len(ids), 3, 51, 51)).astype(np.float32)
                writer.append(stamps, pd.DataFrame({"id": ids, "label": ids % 2}))
        register_resolvers()
    with initialize_config_dir(str(project_root() / "conf"), version_base="1.3"):
        config = resolved(compose("train", [f"model={model}", "split.val=0.2", "split.test=0"]))
    classifier = Classifier(
        config["model"]["network"], config["model"]["inputs"], config["trainer"]["optimizer"],
        provenance=Provenance(model),
    )  # fmt: skip
    content = {"state_dict": classifier.state_dict()}
    classifier.on_save_checkpoint(content)
    checkpoint = folder / f"{model}.ckpt"
    torch.save(content, checkpoint)
    stamp_set = StampSet.open(path)
    split = split_of(stamp_set, config)
    rows = np.concatenate([split.train, split.val])
    inputs = classifier.inputs
    x = inputs.prepare(np.array(stamp_set.stamps)[rows]).numpy().transpose(0, 2, 3, 1)
    arrays = folder / f"{model}.npz"
    np.savez(arrays, x=x, labels=stamp_set.labels[rows], n_train=len(split.train))
    return {
        "ours": {"model": model, "data": str(path), "checkpoint": str(checkpoint)},
        "peers": {
            "arrays": str(arrays),
            "network": config["model"]["network"],
            "shape": list(inputs.shape),
            "n_parameters": sum(p.numel() for p in classifier.parameters()),
        },
    }


def compete(names: tuple[str, ...], settings: dict[str, Any], told: argparse.Namespace) -> list:
    """Run a group; gives those that could take part."""
    ready = []
    for name in names:
        if name in _PEERS and told.no_peers:
            continue
        epochs = told.epochs * _EPOCHS[settings["ours"]["model"]]
        own = settings["peers" if name in _PEERS else "ours"] | {"epochs": epochs}
        one = Contestant.start(name, own)
        print(f"  getting {name} ready …", file=sys.stderr)
        if one.wait():  # one after the other: what they time while they choose is not disturbed
            ready.append(one)
        else:
            print(f"  {name}: {one.missing} is not installed", file=sys.stderr)
    for number in range(told.rounds):
        print(f"  round {number + 1}/{told.rounds}", file=sys.stderr)
        for one in ready:
            one.go()
    for one in ready:
        one.end()
    return ready


def machine() -> dict[str, Any]:
    """What it was measured on."""
    import psutil
    import torch

    from rb.io.workers import usable_cores

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "processor": model,
        "cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def measure(told: argparse.Namespace) -> dict[str, Any]:
    """All groups for both networks."""
    from rb.tracking import git_commit

    rows = []
    with tempfile.TemporaryDirectory(prefix="rb-speed-") as place:
        folder = Path(place)
        for model in ("dia", "nodia"):
            settings = prepare(folder, model, told.stamps)
            checkpoint = settings["ours"]["checkpoint"]
            said = subprocess.run(
                [sys.executable, str(HERE / "ours.py"), "flop", checkpoint],
                capture_output=True, text=True, check=True, cwd=ROOT,
            )  # fmt: skip
            predicting, training = map(float, said.stdout.split())
            (peak,) = compete(("gemm",), settings, told)
            for group, names in GROUPS.items():
                print(f"{model}, {group}", file=sys.stderr)
                for one in compete(names, settings, told):
                    each = training if group == "training" else predicting
                    rows.append(
                        {
                            "model": model,
                            "group": group,
                            "name": one.name,
                            "rates": one.rates,
                            "share_of_peak": median(one.rates) * each / median(peak.rates),
                            "about": one.about,
                        }
                    )
            rows.append({"model": model, "group": "peak", "name": "gemm", "rates": peak.rates})
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git_commit() or "unknown",
        "machine": machine(),
        "stamps": told.stamps,
        "rounds": told.rounds,
        "rows": rows,
    }


def ratios(rows: list[dict[str, Any]], row: dict[str, Any], other: str) -> list[float]:
    """Rates of a contestant over those of another of its group, round by round."""
    for candidate in rows:
        if (candidate["model"], candidate["group"], candidate["name"]) == (
            row["model"], row["group"], other,
        ):  # fmt: skip
            return [a / b for a, b in zip(row["rates"], candidate["rates"], strict=True)]
    return []


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    about = found["machine"]
    lines = [
        f"{found['date']}, commit {found['commit'][:10]}, {about['processor']}, {about['cores']} "
        f"cores, torch {about['torch']}; medians (and ranges) of {found['rounds']} rounds, "
        f"{found['stamps']:,} stamps.",
        "",
        "| | | stamps/s | of the peak | beside Keras |",
        "| --- | --- | --- | --- | --- |",
    ]
    keras = {"training": "Keras fit", "prediction": "Keras predict", "one at a time": "Keras"}
    for row in found["rows"]:
        if row["group"] == "peak":
            peak = median(row["rates"]) / 1e9
            lines.append(f"| {row['model']} | product of matrices | {peak:.0f} GFLOP/s | | |")
            continue
        rate = f"{median(row['rates']):,.0f} ({min(row['rates']):,.0f}–{max(row['rates']):,.0f})"
        if row["group"] == "one at a time":
            rate += f", {1e3 / median(row['rates']):.2f} ms each"
        beside = ratios(found["rows"], row, keras[row["group"]])
        times = f"{median(beside):.2f} ({min(beside):.2f}–{max(beside):.2f})" if beside else ""
        name = f"**{row['name']}**" if row["name"] in OURS else row["name"]
        engine = row["about"].get("engine")
        name += f", by {engine}" if engine else ""
        lines.append(
            f"| {row['model']} {row['group']} | {name} | {rate} | {row['share_of_peak']:.0%} "
            f"| {times} |"
        )
    return "\n".join(lines)


def write_history(folder: Path, page: Path) -> None:
    """The page: the newest table, and what each run before it had."""
    runs = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    ours = [("training", "train.py", "Keras fit"), ("prediction", "Scorer.score", "Keras predict")]
    head = [f"{model} {name}" for model in ("dia", "nodia") for _, name, _ in ours]
    lines = [
        "# Speed",
        "",
        "Written by `make bench`: every contestant goes through the same rounds in turns, so",
        'ratios hold where absolute figures drift. "Of the peak" is the share of what a product of',
        "matrices reaches in single precision on the same machine, from the FLOP that PyTorch",
        "counts (the scaling of raw stamps is not counted).",
        "",
        table(runs[-1]),
        "",
        "## History",
        "",
        "Stamps a second, and in brackets times Keras.",
        "",
        "| date | commit | processor | " + " | ".join(head) + " |",
        "| --- | --- | --- |" + " --- |" * len(head),
    ]
    for run in runs:
        cells = []
        for model in ("dia", "nodia"):
            for group, name, other in ours:
                row = next(
                    r
                    for r in run["rows"]
                    if (r["model"], r["group"], r["name"]) == (model, group, name)
                )
                beside = ratios(run["rows"], row, other)
                cells.append(
                    f"{median(row['rates']):,.0f}" + (f" ({median(beside):.2f})" if beside else "")
                )
        where = run["machine"]["processor"]
        lines.append(
            f"| {run['date']} | {run['commit'][:10]} | {where} | " + " | ".join(cells) + " |"
        )
    page.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=2, help="of a round of training (2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true", help="without Keras")
    parser.add_argument("--no-keep", action="store_true", help="print only")
    told = parser.parse_args()
    if not told.no_peers and not (PEERS / ".ready").exists():
        print(f"installing {', '.join(PEER_PACKAGES)} into {PEERS} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        pip = [str(PEERS / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PEER_PACKAGES], check=True)
        (PEERS / ".ready").touch()
    found = measure(told)
    print(table(found))
    if not told.no_keep:
        kept = ROOT / "benchmarks" / "results" / "speed"
        kept.mkdir(parents=True, exist_ok=True)
        name = f"{found['date']}-{time.strftime('%H%M')}-{found['commit'][:10]}.json"
        (kept / name).write_text(json.dumps(found, indent=1) + "\n")
        write_history(kept, ROOT / "docs" / "speed.md")


if __name__ == "__main__":
    main()
