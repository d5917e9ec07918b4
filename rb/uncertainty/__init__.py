"""How far the scores of a model can be trusted: calibration and operating points."""
