"""Comparisons of contenders: studies, suites, single evaluations, finished runs."""
