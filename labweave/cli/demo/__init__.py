"""``labweave demo``: a simulated lab, its files and its figure."""
