"""Memory that is kept from one training step or piece of stamps to the next."""

from __future__ import annotations

import ctypes
from functools import cache

# <malloc.h> of glibc
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


@cache
def keep_memory() -> bool:
    """Have the C library keep what is freed, instead of handing it back to the system.

    A training step frees and takes hundreds of megabytes; taken back from the system each
    time, every page of them costs a fault, a third of the step; most of the time of scaling
    stamps, too. Only glibc can be told so.

    Returns
    -------
    bool
        Whether it was.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1}
    return all([mallopt(key, value) == 1 for key, value in settings.items()])
