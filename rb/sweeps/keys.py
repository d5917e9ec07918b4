"""What a sweep varies, read from the command line and ``hydra.sweeper.params``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rb.config import config_digest

SWEPT_VARIABLE = "RB_SWEPT_KEYS"
_HOME = "vary."  # of the keys that experiments put others together from; left out of names


def swept(config: DictConfig) -> dict[str, str]:
    """Swept keys with what they are swept over, as written, for a composed sweep.

    What the command line says of a key replaces what ``hydra.sweeper.params`` says of it, also
    if it sets the key to one value.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = OmegaConf.select(config, "hydra.sweeper.params")
    lines = [f"{key}={value}" for key, value in (params or {}).items()]
    lines += list(config.hydra.overrides.task)
    found: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(lines):
        found.pop(override.key_or_group, None)
        if override.is_sweep_override():
            text = str(override.input_line)
            found[override.key_or_group] = text.partition("=")[2]
    return found


def n_jobs(config: DictConfig) -> int | None:
    """How many jobs the sweep will have; None if only the sweeper knows."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = config.hydra.sweeper
    trials = OmegaConf.select(sweeper, "n_trials")
    if trials is not None:
        return int(trials)
    if not str(sweeper.get("_target_", "")).endswith("BasicSweeper"):
        return None
    lines = [f"{key}={value}" for key, value in swept(config).items()]
    try:
        parsed = OverridesParser.create().parse_overrides(lines)
        return len(BasicSweeper.split_arguments(parsed, None)[0])
    except Exception:  # a sweep over all choices (*) needs Hydra's search path to be counted
        return None


def sweep_key(config: DictConfig) -> str:
    """Digest that two sweeps share if the same jobs are to be done under the same name."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    own: dict[str, Any] = {str(key): value for key, value in plain.items() if key != "hydra"}
    sweeper = dict(config.hydra.sweeper)
    sweeper.pop("params", None)
    parts = [
        config_digest(own),
        config.get("name"),
        swept(config),
        {str(key): str(value) for key, value in sweeper.items()},
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def announce(keys: Sequence[str]) -> None:
    """Tell the jobs, also those in other processes, which keys are swept."""
    os.environ[SWEPT_VARIABLE] = " ".join(keys)


def job_name(overrides: Sequence[str]) -> str:
    """Name of a sweep's job: the settings that tell it from its siblings, if any do."""
    return " ".join(_shown(o.removeprefix("model=").removeprefix(_HOME)) for o in _own(overrides))


def job_values(overrides: Sequence[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Value of each swept key in a job.

    A list such as ``vary.row=[7,3,3,200]`` becomes one value for each of its elements, named by
    the key beside it, ``vary.row_names``, where there is one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(_own(overrides)):
        key, value = override.key_or_group.removeprefix(_HOME), override.value()
        if isinstance(value, list) and all(_plain(v) for v in value):
            names = _names(override.key_or_group, config)
            if len(names) != len(value):
                names = [f"{key}.{i}" for i in range(len(value))]
            found |= dict(zip(names, value, strict=True))
        else:
            found[key] = value if _plain(value) else str(value)
    return found


def _own(overrides: Sequence[str]) -> list[str]:
    keys = os.environ.get(SWEPT_VARIABLE, "").split()
    return [o for o in overrides if o.split("=", 1)[0].lstrip("+~") in keys]


def _shown(override: str) -> str:
    """An override with the digits of a number that was drawn cut to what a person reads."""
    key, _, value = override.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        return override
    return f"{key}={number:.4g}" if len(value) > 8 else override


def _names(key: str, config: Mapping[str, Any]) -> list[str]:
    place: Any = config
    *folders, last = key.split(".")
    for folder in folders:
        place = place.get(folder) if isinstance(place, Mapping) else None
    names = place.get(f"{last}_names") if isinstance(place, Mapping) else None
    return [str(name) for name in names or []]


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
