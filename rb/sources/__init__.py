"""How stamps get in: the simulated survey, the DES autoscan archive, alert packets.

A source is a module of this package with a function
``open_stamps(config, *, progress=True) -> StampSet``, and a file ``conf/data/<name>.yaml``
whose ``name`` is that of the module. It builds its stamp set on first use, in the folder
``config["cache"]``, and opens it afterwards; a function ``check_settings(config)``, if it has one,
says early what cannot work. The setting ``labels``, a table of verdicts, is the same for all
sources and is applied here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rb.errors import UserError

if TYPE_CHECKING:
    from rb.stamps import StampSet


def open_stamps(config: Mapping[str, Any], *, progress: bool = True) -> StampSet:
    """Open the stamp set that a ``data`` configuration describes; build it if need be.

    Labels come from the table ``config["labels"]`` where it names a candidate.

    Raises
    ------
    UserError
        If there is no such source, its data cannot be read, or the table does not fit.
    """
    stamps: StampSet = _source(config).open_stamps(_own(config), progress=progress)
    if config.get("labels") is None:
        return stamps
    from rb.stamps.relabelled import relabel

    return relabel(stamps, str(config["labels"]))


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse a ``data`` configuration that cannot work, before anything is read or built."""
    check = getattr(_source(config), "check_settings", None)
    if check is not None:
        check(_own(config))


def _source(config: Mapping[str, Any]) -> Any:
    name = str(config.get("name"))
    if not name.isidentifier() or importlib.util.find_spec(f"rb.sources.{name}") is None:
        raise UserError(f"data.name is '{name}': there is no such source of stamps")
    source = importlib.import_module(f"rb.sources.{name}")
    if not hasattr(source, "open_stamps"):
        raise UserError(f"data.name is '{name}': that is no source of stamps")
    return source


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "labels"}
