"""How much a model may have."""

MAX_CLASSES = 65534
"""Class ids fit 16 bits, less the codes for unlabelled and for no data."""
