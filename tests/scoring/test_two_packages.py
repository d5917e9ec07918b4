"""An exported model in an environment with NumPy and ONNX Runtime, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv

import numpy as np
import pytest
from exported import exported
from toys import REPOSITORY, toy_stamps

import rb


@pytest.mark.slow
def test_the_lines_of_the_documentation_score_with_two_packages(tmp_path):
    page = (REPOSITORY / "docs" / "score.md").read_text()
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.S) if "onnxruntime" in c)
    assert len(code.strip().splitlines()) <= 10
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "numpy", "onnxruntime"], capture_output=True, text=True)
    if done.returncode and re.search("connection|resolve|index", done.stderr, re.I):
        pytest.skip("no package index to install the two from")
    assert done.returncode == 0, done.stderr
    for package in ("torch", "rb", "pandas"):
        looked = subprocess.run(
            [python, "-c", f"import {package}"], cwd=tmp_path, stderr=-3, env=bare
        )
        assert looked.returncode, f"{package} is there"
    stamps, _ = toy_stamps(40)
    np.save(tmp_path / "stamps.npy", stamps)
    (tmp_path / "model.onnx").write_bytes(exported()[1].read_bytes())
    said = subprocess.run(
        [python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=bare
    )
    real = int((rb.load(exported()[1]).p_real(stamps) >= 0.5).sum())
    assert said.stdout.strip() == f"{real} of 40 are real"
    assert sys.prefix not in said.stdout
