"""A small share of `make faults` and `make fuzz`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_what_is_killed_goes_on_to_the_same_result():
    done = subprocess.run(
        [sys.executable, HERE / "harness.py", "--injections", "3", "--minutes", "10"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    injected, ended, lost, wrong = map(int, re.search(
        r"\| all \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", done.stdout
    ).groups())  # fmt: skip
    assert injected > 10 and ended >= 10 and (lost, wrong) == (0, 0)  # 10 are each command twice


@pytest.mark.slow
def test_broken_files_are_refused_in_one_line():
    done = subprocess.run(
        [sys.executable, HERE / "fuzz.py", "--seconds", "20", "--seed", "1",
         "--corpus", str(HERE / "corpus")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [int(n.replace(",", "")) for n in re.findall(r": ([\d,]+) files", done.stdout)]
    assert len(tried) == 14 and sum(tried) > 200
