"""Use what was trained: engines, exported files, score tables, streams, clusters."""
