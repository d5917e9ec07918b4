"""How fast it is beside what else does the same, in one go: ``python -m benchmarks.speed``."""
