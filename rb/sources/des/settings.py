"""The settings of ``conf/data/des.yaml``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rb.io.workers import usable_cores
from rb.settings import Choice, Items, OrNull, Place, Share, Text, Whole, read
from rb.stamps.stampset import CHANNELS


@dataclass(frozen=True)
class DesSettings:
    """What ``conf/data/des.yaml`` says; the comments there explain the keys."""

    root: Annotated[Path, Place("the folder of the archive")]
    cache: Annotated[Path, Place()]
    table: Annotated[str | None, OrNull(Text("a file"))] = None
    require: Annotated[tuple[str, ...], Items(Choice(CHANNELS), least=1, single=True)] = CHANNELS
    unlabelled: Annotated[str, Choice(("keep", "drop"))] = "keep"
    flat: Annotated[str, Choice(("together", "apart"))] = "together"
    max_bad_share: Share = 0.01
    processes: Annotated[int | None, OrNull(Whole(1))] = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> DesSettings:
        """Check `config` and make settings of it.

        Raises
        ------
        UserError
            Naming the key that is unknown, missing or wrong.
        """
        return read(cls, {key: value for key, value in config.items() if key != "name"}, "data")

    @property
    def required(self) -> tuple[str, ...]:
        """The channels of `require`, in the order of a stamp."""
        return tuple(c for c in CHANNELS if c in self.require)

    @property
    def n_processes(self) -> int:
        """Processes to read with."""
        return self.processes or usable_cores()
