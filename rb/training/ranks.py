"""One training in several processes that `torchrun` has started: one of them keeps the records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from rb.errors import UserError
from rb.tracking import TrackedRun, Tracking


def n_ranks() -> int:
    """Processes that train together; 1 where `torchrun` has started none."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Number of this process among them."""
    return int(os.environ["RANK"]) if n_ranks() > 1 else 0


def trainer_arguments() -> dict[str, Any]:
    """What Lightning's Trainer has to know of them."""
    if n_ranks() == 1:
        return {"devices": 1}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": here, "num_nodes": n_ranks() // here, "strategy": "ddp"}


def own_console(console: Console) -> Console:
    """The console, silent in all processes but the first."""
    return console if rank() == 0 else Console(quiet=True)


def refuse_several(what: str) -> None:
    """UserError if `torchrun` has started several processes for `what`."""
    if n_ranks() > 1:
        raise UserError(f"{what} takes one process; start it without torchrun")


@contextmanager
def shared_run(tracking: Tracking, *arguments: Any, **named: Any) -> Iterator[TrackedRun]:
    """`Tracking.run`, once for all processes: the others get the same run, to read only."""
    if n_ranks() == 1:
        with tracking.run(*arguments, **named) as run:
            yield run
        return
    import torch.distributed as dist

    dist.init_process_group("cpu:gloo,cuda:nccl" if _has_gpu() else "gloo")
    try:
        dist.barrier()  # all have looked at the run before the first one changes it
        if rank() == 0:
            with tracking.run(*arguments, **named) as run:
                dist.broadcast_object_list([run.run_id])
                yield run
        else:
            found: list[Any] = [None]
            dist.broadcast_object_list(found)
            yield TrackedRun(tracking.to_read(), found[0])
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
