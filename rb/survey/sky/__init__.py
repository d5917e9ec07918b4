"""What is in the sky: galaxies, stars, supernovae, and how they are drawn."""
