"""How many tiles a forward takes where nobody says: known to plans, which load no torch, and to the model at work."""

AUTO_BATCH = 16
"""Tiles per forward on an accelerator; on a CPU a batch brings nothing but memory, so it is 1 there."""
