"""Many models × datasets × seeds: runs, statistics, report."""
