"""The models that come with the program: a folder each, with weights, card, and how they were made."""
