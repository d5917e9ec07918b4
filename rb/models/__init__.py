"""Networks, the training module around them, and foreign models."""
