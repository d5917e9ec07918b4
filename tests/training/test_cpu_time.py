"""CPU time is that of all processes, whether they live or have ended."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from rb.training.cpu_time import cpu_seconds

_BURN = """
import sys, time
end = time.process_time() + 0.4
while time.process_time() < end: pass
print("burnt", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="living processes need /proc")
def test_living_and_ended_children_count_once():
    before, own = cpu_seconds(), time.process_time()
    child = subprocess.Popen(
        [sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "burnt\n"
    living = cpu_seconds() - before
    child.communicate("")
    ended = cpu_seconds() - before
    spent_here = time.process_time() - own
    assert 0.38 <= living <= 0.4 + spent_here + 0.5
    assert living - 0.02 <= ended <= living + 0.3
