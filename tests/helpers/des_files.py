"""DES archives for the tests: the generator from `benchmarks/`, small trees, sets built of them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from rb.sources.des.source import open_stamps
from rb.stamps import StampSet

PANELS = ("diff", "srch", "temp")
WHERE = "SNWG/Archive/2013/Y1/20130829/470681007"


def _load() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "des_archive.py"
    spec = importlib.util.spec_from_file_location("benchmarks_des_archive", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


archive = _load()


def write_table(folder: Path, labels: dict[int, int]) -> Path:
    """A small feature table with the survey's columns."""
    path = folder / "autoscan_features.3.csv"
    rows = pd.DataFrame({"ID": list(labels), "OBJECT_TYPE": list(labels.values())})
    for k, name in enumerate(archive.FEATURES):
        rows[name] = rows["ID"] % 100 / 10 + k
    rows["BAND"] = "i"
    path.write_text("# from a test\n" + rows.to_csv(index=False))
    return path


def build(folder: Path, /, **settings: Any) -> StampSet:
    config = {"name": "des", "root": folder, "cache": folder.parent / "cache", "processes": 1}
    return open_stamps(config | settings, progress=False)


def report(stamps: StampSet) -> dict[str, Any]:
    return json.loads((stamps.path / "build-report.json").read_text())


def small_tree(root: Path, ids: tuple[int, ...] = (11, 12, 13), where: str = WHERE) -> Path:
    folder = root / where
    folder.mkdir(parents=True)
    for number in ids:
        for panel, name in enumerate(PANELS):
            image = archive.pixels(number, panel)
            (folder / f"{name}{number}.fits").write_bytes(archive.fits_file(image))
            (folder / f"{name}{number}.gif").write_bytes(b"GIF89a")
    write_table(root, {number: number % 2 for number in ids})
    return folder
