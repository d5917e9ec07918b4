"""Metrics with intervals, thresholds, comparison of runs, cost accounting."""
