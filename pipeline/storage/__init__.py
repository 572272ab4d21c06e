"""Files of this machine and objects in buckets, alike: written whole, cut into shards, locked."""
