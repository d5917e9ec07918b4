"""`trainer.compile`: the same training, through torch's compiler."""

from __future__ import annotations

import shutil

import pytest
from command_lines import run
from toys import TINY, write_set

from rb.tracking import Tracking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with a C++ compiler"),
]

PLAIN = "model.network.convolutions=[{filters:4,kernel:5,pool:2,dropout:0.0}]"


def words(root, *more):
    return [
        *TINY, "model=nodia", PLAIN, "data=stamps", f"data.path={root / 'set'}",
        f"paths.root={root}", "trainer.accelerator=cpu", "trainer.max_epochs=3", *more,
    ]  # fmt: skip


def test_a_compiled_network_learns_the_same(tmp_path):
    write_set(tmp_path / "set", 60)
    run("train.py", *words(tmp_path), "name=eager")
    done = run("train.py", *words(tmp_path), "name=compiled", "trainer.compile=default")
    assert "graph break" not in done.stderr.lower()
    store = Tracking(None, tmp_path / "mlruns", "rb")
    one, two = (
        [m.value for m in store.client.get_metric_history(store.find(name).info.run_id, "val/loss")]
        for name in ("eager", "compiled")
    )
    assert len(one) == 3
    assert two == pytest.approx(one, abs=1e-4)


def test_without_a_compiler_it_is_one_line(tmp_path):
    write_set(tmp_path / "set", 60)
    place = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ended = run(
        "train.py", *words(tmp_path, "trainer.compile=default"), expect=2, forked=False, **place
    )  # PyTorch reads them when it is imported
    assert "trainer.compile=default: torch cannot compile this network here" in ended.stderr
    assert "Traceback" not in ended.stderr
