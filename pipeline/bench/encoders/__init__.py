"""Does a spatial design suit segmentation better than a sequence? Encoders and ways of queries, trained alike."""
