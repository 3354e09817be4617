"""Files of datasets: found in a repository or the cache folder, or downloaded and checked."""
