"""Networks of other packages: registered ones are trained and loaded again, others refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_lines import run, run_here
from toys import REPOSITORY, toy_stamps, write_set

import rb
from rb.errors import UserError

MODULE = '''
from torch import nn

class Mean(nn.Module):
    """Logits that are linear in the mean of each quarter of the stamps."""

    def __init__(self, input_shape, width=3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * input_shape[0], width), nn.ReLU(),
            nn.Linear(width, 2),
        )

    def forward(self, x):
        return self.layers(x)
'''
NETWORK = "model.network={_target_: toynets.Mean, width: 5}"


@pytest.fixture
def packages(tmp_path) -> Path:
    """A folder with the module `toynets`, as an installer would put it there."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "toynets.py").write_text(MODULE)
    return folder


def register(packages: Path) -> None:
    about = packages / "toynets-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toynets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[rb.networks]\nmean = toynets:Mean\n")


def arguments(root: Path) -> list[str]:
    return [
        "data=stamps", f"data.path={root / 'set'}", f"paths.root={root}", "model=nodia",
        "~model.network", "+" + NETWORK, "trainer=quick", "trainer.max_epochs=1",
        "trainer.accelerator=cpu", "name=toy",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_registered_network_is_trained_evaluated_and_loaded_again(packages, tmp_path):
    register(packages)
    write_set(tmp_path / "set", 60)
    path = f"{packages}:{REPOSITORY}"
    done = run("train.py", *arguments(tmp_path), PYTHONPATH=path)
    assert "toy: 37 parameters" in done.stdout
    report = tmp_path / "report"
    run(
        "evaluate.py", "runs=toy", "subset=all", "timing=false", f"paths.root={tmp_path}",
        f"report={report}", PYTHONPATH=path,
    )  # fmt: skip
    (scores,) = (report / "scores").glob("*/scores.parquet")
    stamps, _ = toy_stamps(60)
    np.save(tmp_path / "stamps.npy", stamps)
    code = (
        "import sys, numpy, rb\n"
        f"found = rb.load('toy', runs={str(tmp_path / 'mlruns')!r})\n"
        f"numpy.save({str(tmp_path / 'p_real.npy')!r}, found.p_real(numpy.load(sys.argv[1])))\n"
    )
    again = [sys.executable, "-c", code, str(tmp_path / "stamps.npy")]
    subprocess.run(again, check=True, env={"PYTHONPATH": path}, cwd=tmp_path)
    p_real = np.load(tmp_path / "p_real.npy")
    np.testing.assert_allclose(p_real, pd.read_parquet(scores)["p_real"], atol=1e-6)
    # Where the package is not installed, its checkpoint is not built.
    (checkpoint,) = (tmp_path / "mlruns/checkpoints").glob("*/best.ckpt")
    with pytest.raises(UserError, match=r"best.ckpt: .*'toynets.Mean' is not one of rb's own"):
        rb.load(checkpoint)


def test_another_network_is_refused_before_anything_is_read(
    packages, tmp_path, monkeypatch, capsys, as_before
):
    monkeypatch.syspath_prepend(packages)
    assert run_here(monkeypatch, "train.py", *arguments(tmp_path)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "starting" not in line]
    assert len(said) == 1
    assert "'toynets.Mean' is not one of rb's own networks" in said[0]
    assert "entry point group rb.networks" in said[0]
    assert not (tmp_path / "mlruns").exists()  # nor was the stamp set missed, which is not there
