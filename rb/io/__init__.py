"""Files, locks, worker processes, progress, and readers of formats that strangers send."""
