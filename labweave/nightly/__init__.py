"""The night: every source, populate, checks and backup, in one unattended run that leaves one row and one report."""
