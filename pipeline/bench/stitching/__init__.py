"""How well tiles are stitched to objects, on drawn scenes whose truth is known, against what others do."""
