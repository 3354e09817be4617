"""From a filter to rows of sessions, datasets and insertions: what ONE's front ends ask of the tables."""
