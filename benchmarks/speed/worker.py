"""One contestant in a process of its own: prepares itself, then runs once for each line it reads.

So all of them are ready when the rounds begin, and take turns: a machine whose speed drifts slows
all alike. Answers are lines of JSON, on the descriptor that was standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Prepare = Callable[..., Callable[[], float]]


def serve(contestants: dict[str, Prepare]) -> None:
    """Run the contestant that the command line names.

    Parameters
    ----------
    contestants : dict
        Functions of the settings that get ready and give a function of nothing: what is timed,
        returning how many things it has done, or a rate of its own making.
    """
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes elsewhere

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        run = contestants[name](**settings)
        run()  # warm
    except ImportError as error:
        answer(missing=error.name or str(error))
        return
    answer(ready=True, about=getattr(run, "about", {}))
    for _ in sys.stdin:
        started, cpu = time.perf_counter(), time.process_time()
        done = run()
        seconds = time.perf_counter() - started
        rate = done["rate"] if isinstance(done, dict) else done / seconds
        answer(rate=rate, cpu_s=time.process_time() - cpu)
