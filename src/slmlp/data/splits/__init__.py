"""Parts and class splits: which images and classes are trained on, which are kept for testing."""
