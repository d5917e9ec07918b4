"""Real/bogus classification of transients, with and without the difference image."""

__version__ = "0.1.0"
