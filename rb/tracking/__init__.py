"""Everything that talks to MLflow."""

from rb.tracking.client import TrackingError
from rb.tracking.origin import (
    CONFIG_TAG,
    ERROR_TAG,
    EXPERIMENT_TAG,
    KIND_TAG,
    PARENT_TAG,
    PARENT_VARIABLE,
    PROCESS_TAG,
    SAVED_CONFIG_TAG,
    SIZE_TAG,
    STATE_TAG,
    SWEEP_TAG,
    Process,
    git_commit,
    is_alive,
)
from rb.tracking.store import Tracking, open_tracking
from rb.tracking.tracked_run import TrackedRun

__all__ = [
    "CONFIG_TAG",
    "ERROR_TAG",
    "EXPERIMENT_TAG",
    "KIND_TAG",
    "PARENT_TAG",
    "PARENT_VARIABLE",
    "PROCESS_TAG",
    "SAVED_CONFIG_TAG",
    "SIZE_TAG",
    "STATE_TAG",
    "SWEEP_TAG",
    "Process",
    "TrackedRun",
    "Tracking",
    "TrackingError",
    "git_commit",
    "is_alive",
    "open_tracking",
]
