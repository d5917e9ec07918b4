"""The recipes for adding to the project, done as they say in a copy of it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import Block, blocks, copy_project, run_blocks
from toys import toy_stamps

WORDS = ("a network", "a survey", "a metric", "a figure", "a study", "an experiment", "a command")


def follow(project: Path, block: Block) -> None:
    """Write a new file, or change an old one; the first line says which."""
    first, _, rest = block.code.partition("\n")
    file = project / first.removeprefix("# ")
    if block.language != "diff":
        assert not file.exists(), f"{first}: is there already"
        file.write_text(rest, encoding="utf-8")
        return
    lines = rest.splitlines()
    old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{first}: has no such lines, or several"
    file.write_text(text.replace(old, new), encoding="utf-8")


def recipes() -> list[Block]:
    return [block for block in blocks("contributing.md") if block.language not in ("sh", "toml")]


def test_there_is_a_recipe_for_each_thing_that_can_be_added():
    from pages import DOCS

    text = (DOCS / "contributing.md").read_text(encoding="utf-8")
    assert [word for word in WORDS if f"\n## {word.capitalize()}\n" not in text] == []


def test_new_modules_of_the_recipes_are_documented_as_others_are():
    for language, code in recipes():
        if language == "python":
            tree = ast.parse(code)
            assert ast.get_docstring(tree), code.splitlines()[0]
            for part in tree.body:
                if isinstance(part, ast.FunctionDef | ast.ClassDef) and part.name[0] != "_":
                    assert ast.get_docstring(part), part.name


@pytest.mark.slow
def test_every_recipe_works(tmp_path):
    project = copy_project(tmp_path / "project")
    for block in recipes():
        follow(project, block)
    stamps, labels = toy_stamps(90)
    known = {"id": np.arange(90), "label": labels, "group": np.arange(90) // 6}
    np.savez(project / "mine.npz", stamps=stamps, mag=np.linspace(20, 24, 90), **known)

    commands = [block for block in blocks("contributing.md") if block.language == "sh"]
    assert len(commands) == 5
    said = run_blocks(project, commands)

    assert "average: 2,234 parameters" in said[0]
    table = pd.read_csv(project / "report" / "comparison.csv").iloc[0]
    assert table["model"] == "average" and table["data_name"] == "npz"
    if table["precision"] > 0:
        assert table["false_discovery_rate"] == pytest.approx(1 - table["precision"])
    assert (project / "faintness" / "figures" / "faintness_average.png").stat().st_size > 5_000
    assert "3/3" in said[3]
    assert said[4] == "45 real, 45 bogus\n"
