"""The mosaic in other forms."""
