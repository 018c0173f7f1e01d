"""Parts and class splits: which images and classes are trained on, and which are kept for testing."""
