"""Locks, worker processes and files, each with processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import REPOSITORY

from rb.errors import UserError
from rb.io.files import aside, safe_name, write_whole
from rb.io.locks import locked

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}

_HOLD = """
import sys, time
from pathlib import Path
from rb.io.locks import locked
with locked(Path(sys.argv[1]), waiting="waiting for the other"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
print("gone", flush=True)
"""


def hold(file: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(file), str(seconds)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_second_waits_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / ".lock"
    with hold(file, 1.0) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="busy"), locked(file, refusal="busy"):
            pass
        with locked(file, waiting="waiting for the other"):
            assert first.wait(10) == 0
        assert capsys.readouterr().err == "waiting for the other\n"
    assert not file.exists()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with hold(file, 60) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        first.send_signal(signal.SIGKILL)
        first.wait()
    begun = time.monotonic()
    with locked(file, refusal="busy"):
        pass
    assert time.monotonic() - begun < 5


def test_one_at_a_time_however_many_want_it(tmp_path: Path) -> None:
    """Each removes the lock when it is done; none of those that wait may hold a removed one."""
    script = """
import sys, time
from pathlib import Path
from rb.io.locks import locked
place = Path(sys.argv[1])
for _ in range(15):
    with locked(place / ".lock"):
        (place / "inside").mkdir()
        time.sleep(0.002)
        (place / "inside").rmdir()
"""
    several = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=ENVIRONMENT)
        for _ in range(4)
    ]
    assert [process.wait(60) for process in several] == [0] * 4


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UserError, match="file: cannot be written to"),
        locked(tmp_path / "file" / ".lock"),
    ):
        pass


def test_workers_do_not_run_the_script_again_and_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once', flush=True)\n"
        "import os, time\n"
        "from rb.io.workers import worker_pool\n"
        "with worker_pool(2) as pool:\n"
        "    print(*{pool.submit(os.getpid).result() for _ in range(9)}, flush=True)\n"
        "    pool.submit(time.sleep, 600)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "once\n"
        workers = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_whole(file, b"one", "the file")
    with pytest.raises(ZeroDivisionError), aside(file) as name:
        name.write_bytes(b"half of two")
        raise ZeroDivisionError
    assert file.read_bytes() == b"one"
    assert [p.name for p in file.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a network, lr=0.1", "a_network__lr_0.1"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".hidden", "hidden"),
        ("", "_"),
        ("..", "_"),
        ("x" * 300, "x" * 100),
    ],
)
def test_safe_names(text: str, name: str, tmp_path: Path) -> None:
    assert safe_name(text) == name
    (tmp_path / name).write_text("")
    assert (tmp_path / name).parent == tmp_path
