"""Pages of docs/: their blocks of code, run one after the other in a copy of the project."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from toys import REPOSITORY

DOCS = REPOSITORY / "docs"
# After `trainer=quick` in a command: a network that is trained in seconds.
TINY_NETWORK = (
    "trainer.max_epochs=2 trainer.accelerator=cpu model.network.dense=[4] "
    "'model.network.convolutions=[{filters: 2, kernel: 5, pool: 4}]'"
)


class Block(NamedTuple):
    """A fenced block: its language, and its lines."""

    language: str
    code: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page that name a language, in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2])


def copy_project(folder: Path) -> Path:
    """A copy of what the commands need, at `folder`; its runs and caches lie in it."""
    folder.mkdir()
    for part in ("rb", "conf"):
        shutil.copytree(
            REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    for script in ("train.py", "evaluate.py"):
        shutil.copy(REPOSITORY / script, folder)
    return folder


def run_blocks(project: Path, some: Sequence[Block]) -> list[str]:
    """What each block of Python or of commands prints; they share a process, in the copy.

    Starting one for each takes longer than what they do.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "RB_"))}
    paths = os.pathsep.join([str(project), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", "import pages; pages._run_all()"],
        cwd=project, capture_output=True, text=True, timeout=600,
        input=json.dumps(some), env=kept | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _run_all() -> None:
    """In the copy: blocks from standard input, what they print to standard output, as JSON."""
    printed = []
    for language, code in json.load(sys.stdin):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            if language == "python":
                Path("block.py").write_text(code, encoding="utf-8")
                runpy.run_path("block.py", run_name="__main__")
            else:
                for line in code.splitlines():
                    _run_command(line)
        printed.append(out.getvalue())
    print(json.dumps(printed))


def _run_command(line: str) -> None:
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow puts it there, and it wins
    words = [w for word in shlex.split(line) for w in glob.glob(word) or [word]]
    try:
        if words[0] == "rb":
            from rb.cli import main

            sys.exit(main(words[1:]))
        assert words[0] == "python", line
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"{line}: exit code {end.code}"
