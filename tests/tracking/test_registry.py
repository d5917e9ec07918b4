"""A trained network is registered with MLflow, and served over HTTP by MLflow's own command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from command_lines import run
from ports import free_port
from toys import TINY, toy_stamps, write_set

import rb
from rb.cli import main
from rb.tracking import Tracking
from rb.tracking.database import address


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with a tiny run called `first`."""
    folder = tmp_path_factory.mktemp("registry")
    write_set(folder / "set", 120)
    data = ["data=stamps", f"data.path={folder / 'set'}", f"paths.root={folder}"]
    run("train.py", "model=nodia", *TINY, *data, "name=first")
    return folder


@pytest.mark.slow
def test_a_registered_network_answers_over_http(trained, capsys):
    runs, file = trained / "mlruns", trained / "model.onnx"
    words = ["export", "first", "--runs", str(runs), "--out", str(file)]
    assert main([*words, "--register", "survey@best"]) == 0
    assert "models:/survey@best is version 1" in capsys.readouterr().out
    assert main([*words, "--overwrite", "--register", "survey@best"]) == 0
    client = Tracking(None, runs, "rb").client
    assert client.get_model_version_by_alias("survey", "best").version == 2
    port = free_port()
    served = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/survey@best",
         "--env-manager", "local", "--port", str(port), "--workers", "1"],
        env=os.environ | {
            "MLFLOW_TRACKING_URI": address(runs),
            "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
                break
            except OSError:
                assert served.poll() is None and time.monotonic() < until
                time.sleep(0.2)
        stamps, _ = toy_stamps(5)
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": stamps.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found = json.load(answer)["predictions"]
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait()
    np.testing.assert_allclose(found, rb.load(file).p_real(stamps), atol=1e-6)


@pytest.mark.slow
def test_what_cannot_be_registered_is_said(trained, capsys):
    out = ["--out", str(trained / "other.onnx"), "--runs", str(trained / "mlruns")]
    assert main(["export", "nodia_stamps", *out, "--register", "survey"]) == 2
    assert "--register: nodia_stamps is not of a run" in capsys.readouterr().err
    assert main(["export", "first", *out, "--register", "a/b@best"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --register: ") and said.count("\n") == 1
