"""Functions of features and labels: probes and measures. They know no model."""
