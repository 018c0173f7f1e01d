"""Functions of features and labels: probes and measures. They use no model."""
