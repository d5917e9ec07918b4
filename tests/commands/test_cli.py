"""The command `rb` from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rb.cli import COMMANDS, build_parser, main
from rb.stamps import StampSet

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rb", *words], capture_output=True, text=True, cwd=REPOSITORY
    )


def test_help_is_complete() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert {c.words[0] for c in COMMANDS} <= set(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c.words))
def test_every_command_has_help(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.words  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([*words, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: rb {' '.join(words)}" in text
    assert command.help in " ".join(text.split())  # type: ignore[attr-defined]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, rb.cli; rb.cli.build_parser();"
        "heavy = ('numpy', 'pandas', 'torch', 'requests', 'rich', 'psutil');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words", [(), ("des",), ("nonsense",), ("des", "download", "x", "--parallel", "0")]
)
def test_wrong_words_are_a_users_mistake(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_show(stamp_set: StampSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.png"
    assert main(["show", str(stamp_set.path), "--out", str(page), "--verify"]) == 0
    text = capsys.readouterr().out
    assert str(stamp_set) in text
    assert page.read_bytes().startswith(b"\x89PNG")


def test_show_takes_as_many_of_each_label() -> None:
    import numpy as np

    from rb.commands.show import example_rows

    labels = np.array([0] * 50 + [1] * 3 + [-1] * 50)
    rows = example_rows(labels, 12, seed=1)
    assert len(set(rows.tolist())) == 12
    counts = {k: int((labels[rows] == k).sum()) for k in (0, 1, -1)}
    assert counts[1] == 3
    assert abs(counts[0] - counts[-1]) <= 1
    assert (example_rows(labels, 12, seed=1) == rows).all()


@pytest.mark.parametrize("out", [None, "page.jpeg2"])
def test_show_says_in_one_line_what_is_wrong(
    stamp_set: StampSet, tmp_path: Path, out: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["show", str(stamp_set.path), "--out", str(tmp_path / out)] if out else ["show", "/no"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_damaged_set_is_noticed(stamp_set: StampSet, capsys: pytest.CaptureFixture[str]) -> None:
    path = stamp_set.path / "stamps.npy"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    assert main(["show", str(stamp_set.path)]) == 0
    assert main(["show", str(stamp_set.path), "--verify"]) == 2
    assert "not what was written" in capsys.readouterr().err
