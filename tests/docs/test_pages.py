"""What the pages say about files, rooms, settings and metrics is so."""

from __future__ import annotations

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from pages import DOCS
from toys import REPOSITORY

from rb.config import register_resolvers
from rb.metrics.classification import evaluate_scores

PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
# Paths that are made when something runs, or that recipes add.
MADE = {"docs/_build/html/index.html"}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def outside_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_exist(page):
    files = [f"/{f.relative_to(REPOSITORY)}" for f in REPOSITORY.glob("[!.]*/**/*.py")]
    missing = []
    for code in re.findall(r"`([^`\n]+)`", outside_blocks(page)):
        path = code.split()[0]
        if re.fullmatch(r"(rb|tests|conf|benchmarks|docs)/[\w/.-]+", path):
            if not (REPOSITORY / path).exists():
                missing.append(path)
        elif re.fullmatch(r"[\w/]+\.py", path) and not any(f.endswith(f"/{path}") for f in files):
            missing.append(path)
    assert set(missing) - MADE == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", outside_blocks(page))
    local = [link.partition("#")[0] for link in links if "://" not in link]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


def commands() -> list[tuple[str, str]]:
    """Every `python train.py …` and `python evaluate.py …` of the pages, with its script."""
    found = set()
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", text_of(page))
        for code in re.findall(r"`(python \w+\.py[^`\n]*)`", text) + re.findall(
            r"^ *(python (?:train|evaluate)\.py.*)$", text, re.MULTILINE
        ):
            line = re.split(r" {3,}| #", code)[0].strip()
            script = line.split()[1]
            tried = page.name == "contributing.md"  # by a test of its own, with what it adds
            if script in ("train.py", "evaluate.py") and "…" not in line and not tried:
                found.add((script.removesuffix(".py"), line))
    return sorted(found)


def test_commands_of_the_pages_are_composed():
    wrong = {}
    register_resolvers()
    parser = OverridesParser.create()
    for script, line in commands():
        words = [word for word in shlex.split(line)[2:] if "=" in word]
        some = []
        for override in parser.parse_overrides(words):
            text = override.input_line
            if override.is_sweep_override():  # any of the values will do
                discrete = override.is_discrete_sweep()
                value = next(override.sweep_string_iterator()) if discrete else None
                text = f"{override.input_line.partition('=')[0]}={value}"
            some.append(text)
        try:
            with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
                compose(script, some, return_hydra_config=True)
        except Exception as error:
            wrong[line] = str(error).splitlines()[0]
    assert wrong == {}
    assert len(commands()) > 40


def test_the_rooms_are_those_of_the_import_contract():
    contract = configparser.ConfigParser()
    contract.read(REPOSITORY / ".importlinter")
    layers = contract["importlinter:contract:rooms"]["layers"].strip().splitlines()
    rooms = [
        {room for room in re.findall(r"\(?rb\.[\w]+\)?", layer) if exists(room)} for layer in layers
    ]
    table = text_of(DOCS / "design.md").partition("## Rooms")[2].partition("\n## ")[0]
    told = [
        {path.rstrip("/").replace("/", ".") for path in re.findall(r"`(rb/\w+/?)(?:\.py)?`", row)}
        for row in re.findall(r"^\| (`rb/[^|]+)\|", table, re.MULTILINE)
    ]
    assert told == [{room.strip("()") for room in layer} for layer in rooms if layer]


def exists(room: str) -> bool:
    path = REPOSITORY / room.strip("()").replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_every_metric_is_defined():
    rates = evaluate_scores(np.array([0, 0, 1, 1]), np.array([0.9, 0.6, 0.4, 0.1]))
    names = {re.sub(r"_0\.\d+$", "_<r>", name) for name in rates}
    defined = set(re.findall(r"^\| `([\w<>]+)` \|", text_of(DOCS / "metrics.md"), re.MULTILINE))
    assert names - defined == set()


def test_every_extra_is_told():
    project = tomllib.loads(text_of(REPOSITORY / "pyproject.toml"))["project"]
    told = set(re.findall(r"'\.\[(\w+)\]'", text_of(DOCS / "start.md")))
    assert told == project["optional-dependencies"].keys() - {"docs"}  # make docs brings these


def test_pictures_are_few_and_small():
    pictures = [f for f in DOCS.rglob("*.png") if "_build" not in f.parts]
    assert len(pictures) < 12
    assert [f.name for f in pictures if f.stat().st_size > 200_000] == []
