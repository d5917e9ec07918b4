"""Scores: ROC curves, confusion, calibration, completeness."""
