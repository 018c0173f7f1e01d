"""Numbers that are written down: result lines, their store, intervals, comparisons and verdicts."""
