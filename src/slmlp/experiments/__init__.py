"""Contenders compared: studies, suites, single evaluations, runs side by side."""
