"""Jobs that Hydra hands to a batch system with submitit."""

from __future__ import annotations

import sys
from typing import Any

_submitted: list[Any] = []
_guarded = False


def guard_submissions() -> list[Any]:
    """Keep hold of the jobs that Hydra's launcher submits, in a list that fills up.

    The launcher keeps its jobs to itself, so that a sweep that is stopped could not cancel
    them, and it gives up all of them when one is lost (time limit, failing node). With this, a
    lost job gives no number and the others go on.
    """
    global _guarded
    if _guarded:
        return _submitted
    import submitit

    submit = submitit.AutoExecutor.map_array

    def map_array(executor: Any, function: Any, *arguments: Any) -> list[Any]:
        jobs = submit(executor, function, *arguments)
        _submitted.extend(jobs)
        return [_Guarded(job) for job in jobs]

    submitit.AutoExecutor.map_array = map_array  # type: ignore[assignment,method-assign]
    _guarded = True
    return _submitted


class _Guarded:
    """A job whose result is None if it is lost."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def results(self) -> list[Any]:
        from hydra.core.utils import JobReturn, JobStatus

        try:
            return self._job.results()
        except Exception as error:
            reason = str(error).strip().splitlines()
            print(f"job {self._job.job_id} of the batch system was lost", file=sys.stderr)
            print(f"  {reason[0] if reason else type(error).__name__}", file=sys.stderr)
            lost = JobReturn(status=JobStatus.COMPLETED)
            lost.return_value = None
            return [lost]
