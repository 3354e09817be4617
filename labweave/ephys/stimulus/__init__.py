"""What was applied to a cell: the stimulus of a sweep, found, described, and rebuilt."""
