"""Networks for either side of the comparison, with and without the difference image."""
