"""Encoders on tasks: features, probes, and one result line per number."""
