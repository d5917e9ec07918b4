"""The settings that a run was started with, read back, wherever its folder has gone since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rb.errors import UserError


def parse_config(text: str | bytes, expected: str | None, what: str) -> dict[str, Any]:
    """Settings out of a ``config.yaml``.

    Parameters
    ----------
    text : str or bytes
        Its content.
    expected : str or None
        SHA-256 of what was written, where that is known.
    what : str
        Whose it is, for messages.

    Raises
    ------
    UserError
        If it is not what was written, or not the settings of a run.
    """
    import yaml

    content = text.encode() if isinstance(text, str) else text
    try:
        if expected and hashlib.sha256(content).hexdigest() != expected:
            raise ValueError("it is not what was written")
        saved = yaml.safe_load(content)
        if not isinstance(saved, dict):
            raise ValueError("it holds no settings")
    except (ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{what}: its config.yaml is damaged ({reason})") from error
    return saved


def relocated(saved: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    """Settings whose files are looked for where the project's folder is now.

    Parameters
    ----------
    saved : mapping
        As recorded; ``paths`` tells where everything was.
    runs : path
        Where ``paths.runs`` is now. If it still has the same place below the root, the root has
        moved with it: files below the old root that are at the same place below the new one, or
        nowhere else, are meant there.
    """
    paths = saved.get("paths") or {}
    old_runs, old_root = Path(str(paths.get("runs"))), Path(str(paths.get("root")))
    if old_runs == runs or not old_runs.is_relative_to(old_root):
        return dict(saved)
    tail = old_runs.relative_to(old_root).parts
    if runs.parts[len(runs.parts) - len(tail) :] != tail:
        return dict(saved)
    root = Path(*runs.parts[: len(runs.parts) - len(tail)])

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: moved(one) for key, one in value.items()}
        if isinstance(value, list):
            return [moved(one) for one in value]
        if isinstance(value, str) and Path(value).is_relative_to(old_root):
            there = root / Path(value).relative_to(old_root)
            return str(there) if there.exists() or not Path(value).exists() else value
        return value

    return {key: moved(value) for key, value in saved.items()}
