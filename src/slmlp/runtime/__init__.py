"""Errors, files, seeds, progress, processes and devices. Knows no image and no model."""
