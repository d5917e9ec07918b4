"""Files that are whole or not there, and what killed processes leave."""

from __future__ import annotations

import subprocess
import sys

from rb.io.files import aside, write_whole

KILLED = """
import os, sys
from pathlib import Path
from rb.io.files import aside
with aside(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path):
    file = tmp_path / "scores.parquet"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["half"]  # each removed the one before
    with aside(file) as mine:
        mine.write_text("mine")
        write_whole(file, b"others", "it")  # one that lives is left alone
        assert mine.exists() and file.read_text() == "others"
    assert file.read_text() == "mine" and list(tmp_path.iterdir()) == [file]
