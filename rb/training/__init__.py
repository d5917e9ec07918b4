"""Train a network: one run, from its configuration to a tracked model."""
