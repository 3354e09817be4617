"""Files on demand: found in a repository, taken from the cache folder, or downloaded and checked."""
