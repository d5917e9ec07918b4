"""Architectures, cost, sweeps, suspects."""
