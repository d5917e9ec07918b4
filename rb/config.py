"""What can be said of a configuration before anything heavy is imported."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rb.errors import UserError
from rb.settings import Choice, Number, OrNull, Rule, Text, Whole, check


def project_root() -> Path:
    """Folder that holds `train.py`, `conf/` and `mlruns/`."""
    return Path(__file__).resolve().parent.parent


def register_resolvers() -> None:
    """Make what the configuration files compute known to them.

    ``${rb_root:}`` is the project's folder, ``${times:a,b}`` a product of whole numbers, and
    ``${rows:grid,n,seed}`` a sweep over the combinations of the lists in `grid`: all of them,
    or `n` drawn with `seed` without replacement.
    """
    OmegaConf.register_new_resolver("rb_root", lambda: str(project_root()), replace=True)
    OmegaConf.register_new_resolver("times", lambda a, b: int(a) * int(b), replace=True)
    OmegaConf.register_new_resolver("rows", _rows, replace=True)


def _rows(grid: Sequence[Sequence[Any]], n: int | None, seed: int | None) -> str:
    combinations = list(itertools.product(*grid))
    if n is not None:
        if not 1 <= n <= len(combinations):
            raise UserError(f"vary.draws is {n}; the grid has {len(combinations)} combinations")
        combinations = random.Random(seed).sample(combinations, n)
    return ",".join("[" + ",".join(map(str, row)) + "]" for row in combinations)


_NO_RESULT = (
    "run",
    "name",
    "experiment",
    "size",
    "vary",
    "sweep",
    "tracking",
    "paths",
    "data.processes",
    "data.cache",
    "trainer.save_every_s",
    "trainer.memory_gb",
)

# Files whose content changes the result: an other one at the same place is another setting.
_FILES = ("data.labels", "model.init_from", "model.checkpoint", "model.network.weights")


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 over all settings of a training that change its result.

    Two jobs with the same digest are the same job: names, places, numbers of processes and
    how an experiment puts its settings together (`vary`) are left out. So is what is null or an
    empty mapping, which is the same as a setting that does not exist: digests outlive settings
    that are added later. A table of labels and files of weights count by their content.

    Parameters
    ----------
    config : mapping
        Resolved configuration, as composed from ``conf/train.yaml``.
    """
    kept = {
        key: value
        for key, value in flat(config)
        if value not in (None, {})
        and not any(key == k or key.startswith(k + ".") for k in _NO_RESULT)
    }
    for key in _FILES:
        if key in kept and Path(str(kept[key])).is_file():
            with Path(str(kept[key])).open("rb") as file:
                kept[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations resolved.

    Raises
    ------
    UserError
        If a mandatory value is missing (``???``), or `paths` leads nowhere.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} is not set; add {missing[0]}=… to the command")
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    check_places(settings["paths"])
    return settings  # type: ignore[return-value]


def check_places(paths: Mapping[str, Any]) -> None:
    """Refuse places that cannot be folders, before anything is written anywhere.

    Raises
    ------
    UserError
        Naming the key.
    """
    for key, value in paths.items():
        if not value:
            raise UserError(f"paths.{key} is '{'' if value is None else value}'; give a folder")
        if Path(str(value)).is_file():
            raise UserError(f"paths.{key} is {value}, which is a file; give a folder")


# Settings whose values are words, also those that look like numbers, and their sweeps.
_WORDS = re.compile(
    r"\+{0,2}(?:run|runs|name|title|report|scores|tracking\.(?:uri|experiment)|paths\.\w+|"
    r"data\.(?:path|root|table|cache|labels)|model\.(?:init_from|checkpoint)|study\.table)="
)
_LIKE_A_NUMBER = re.compile(
    r"(?<![^=,\[])\s*([+-]?(?:[\d._]+(?:e[+-]?\d+)?|inf|nan)|true|false)\s*(?![^,\]])",
    re.IGNORECASE,
)


def words_as_typed(arguments: Sequence[str]) -> list[str]:
    """Arguments for Hydra in which ``run=12e45678`` stays the word that was typed.

    Hydra reads what looks like a number as one, which for that ID is infinity.
    """
    return [_LIKE_A_NUMBER.sub(r"'\1'", one) if _WORDS.match(one) else one for one in arguments]


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, leaf); a list counts as a leaf unless it holds mappings."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
            value = {str(i): v for i, v in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        else:
            yield name, value


TRAINING: dict[str, Rule] = {
    "seed": Whole(0, 2**32 - 1),  # the largest that all generators of random numbers take
    "paths.root": Text("a folder"),
    "data.name": Text("the name of a source"),
    "model.name": Text(),
    "trainer.batch_size": Whole(1),
    "trainer.max_epochs": Whole(1),
    "trainer.patience": OrNull(Whole(1)),
    "trainer.augment": OrNull(Choice(("dihedral",))),
    "trainer.label_smoothing": OrNull(Number(0, below=1)),
    "trainer.ema": OrNull(Number(above=0, below=1)),
    "trainer.compile": OrNull(Choice(("default", "reduce-overhead", "max-autotune"))),
    "trainer.save_every_s": Number(0),
    "trainer.memory_gb": Number(0),
    "trainer.optimizer._target_": Text("a class, e.g. torch.optim.SGD"),
    "trainer.optimizer.lr": OrNull(Number(0)),
    "split.train": OrNull(Number(0)),
    "split.val": OrNull(Number(0)),
    "split.test": OrNull(Number(0)),
}
"""What the settings of a training may be, as far as it can be said without its data."""


@functools.cache
def _settings_in(pattern: str) -> set[str]:
    """Settings that some of these files of ``conf/`` have."""
    import yaml

    files = (project_root() / "conf").glob(pattern)
    return set().union(*(yaml.safe_load(f.read_text(encoding="utf-8")) or {} for f in files))


def refuse_unknown(config: Mapping[str, Any], script: str, *groups: str) -> None:
    """Refuse settings that no file in ``conf/`` has: at the top, and in some groups.

    Raises
    ------
    UserError
        Naming the first.
    """
    known = _settings_in(f"{script}.yaml") | {
        one.name for one in (project_root() / "conf").iterdir() if one.is_dir()
    }
    unknown = [key for key in config if key not in known]
    for group in groups:
        own = _settings_in(f"{group}/*.yaml")
        unknown += [f"{group}.{key}" for key in config[group] if key not in own]
    if unknown:
        raise UserError(f"there is no setting '{unknown[0]}'; see python {script}.py --help")


def check_training(config: Mapping[str, Any]) -> None:
    """Refuse settings that cannot work, with the key that is wrong.

    Raises
    ------
    UserError
        Naming the key, its value and what it may be.
    """
    check(config, TRAINING)
    refuse_unknown(config, "train", "model", "split", "tracking", "trainer")
