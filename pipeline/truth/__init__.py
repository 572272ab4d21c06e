"""Labels on the grid of a raster, paired with images and cut into crops for training."""
