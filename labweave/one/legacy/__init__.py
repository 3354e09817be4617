"""The names of the first ONE (`oneibl.one`) over the lab's tables."""
