"""What a camera makes of it: exposures, artefacts, coordinates."""
