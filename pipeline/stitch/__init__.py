"""From the stored answers of single tiles to one mosaic: pure arrays, no files.

`blend` sums what the tiles say of each cell of the global lattice, `label` enlarges the blended scores to pixels and
takes the best class, `exact` does the same at full resolution in the reference's order.
"""
