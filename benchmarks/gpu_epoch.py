"""How long an epoch takes on a GPU: the paper's networks, the data module, Lightning's loop.

    python benchmarks/gpu_epoch.py [--stamps 80000] [--epochs 6]

A stamp set of noise is written to --work, prepared as for any training and kept on the device. Each
line is a network in one precision: seconds of the median epoch after the first two, training alone
and with the validation of a tenth as many stamps. Speed does not depend on what the pixels show.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
import yaml

from rb.models.classifier import Classifier
from rb.stamps import StampSet, StampSetWriter
from rb.stamps.datamodule import StampDataModule
from rb.stamps.inputs import InputSpec
from rb.stamps.splits import Split
from rb.training.network import make_trainer

ROOT = Path(__file__).resolve().parent.parent


class Clock(L.Callback):
    """Notes when epochs begin and end."""

    def __init__(self) -> None:
        self.train: list[float] = []
        self.whole: list[float] = []

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """An epoch begins."""
        self.begun = self._now()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Its training is over."""
        self.train.append(self._now() - self.begun)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All of it is over."""
        self.whole.append(self._now() - self.begun)


def noise_set(path: Path, n: int) -> StampSet:
    """A stamp set of `n` stamps of noise."""
    if not path.exists():
        rng = np.random.default_rng(1)
        with StampSetWriter(path, source="noise", parameters={}) as writer:
            for start in range(0, n, 8000):
                size = min(8000, n - start)
                ids = np.arange(start, start + size)
                stamps = rng.standard_normal((size, 3, 51, 51), dtype=np.float32)
                writer.append(stamps, pd.DataFrame({"id": ids, "label": ids % 2}))
    return StampSet.open(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stamps", type=int, default=80_000, help="in the training set")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=200, help="Table 2 has 200")
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--compile", action="store_true", help="also as trainer.compile does")
    parser.add_argument("--work", type=Path, default=Path("/tmp/gpu_epoch"))
    options = parser.parse_args()
    n = options.stamps
    stamp_set = noise_set(options.work / str(n), n + n // 10)
    split = Split(np.arange(n), np.arange(n, n + n // 10), np.arange(0))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}, torch {torch.__version__}, {n:,} stamps, batches of {options.batch}")
    for name in ("dia", "nodia"):
        model: dict[str, Any] = yaml.safe_load((ROOT / f"conf/model/{name}.yaml").read_text())
        keys = ("channels", "stacking", "scaling")
        inputs = InputSpec(**{k: model["inputs"][k] for k in keys if k in model["inputs"]})
        data = StampDataModule(
            stamp_set, split, inputs, batch_size=options.batch, memory=64 * 2**30
        )
        for precision in options.precision:
            for compiled in (False, True) if options.compile else (False,):
                classifier = Classifier(
                    network=model["network"],
                    inputs=inputs.to_dict(),
                    optimizer={"_target_": "torch.optim.SGD", "lr": 0.01},
                )
                if compiled:
                    classifier.network.compile(mode="reduce-overhead")
                clock = Clock()
                settings = {
                    "max_epochs": options.epochs, "accelerator": "auto", "precision": precision,
                    "lightning": {},
                }  # fmt: skip
                trainer = make_trainer(settings, callbacks=[clock], enable_checkpointing=False)
                trainer.fit(classifier, datamodule=data)
                train, whole = (statistics.median(t[2:]) for t in (clock.train, clock.whole))
                how = precision + (" compiled" if compiled else "")
                print(
                    f"{name:6} {how:20} {train:.3f} s an epoch ({n / train:,.0f} stamps/s), "
                    f"{whole:.3f} s with validation",
                    flush=True,
                )


if __name__ == "__main__":
    main()
