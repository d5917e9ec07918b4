"""The simulated sky: scene, exposures, artefacts, subtraction, detection."""
