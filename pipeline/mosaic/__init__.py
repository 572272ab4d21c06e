"""The result: a georeferenced Zarr pyramid, what its numbers mean, and the files beside it."""
