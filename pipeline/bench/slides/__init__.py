"""How well real images are stitched: a slide put together of images that a model also sees whole."""
