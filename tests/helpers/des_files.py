"""The generator of DES archives, from `benchmarks/`, for the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd


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
