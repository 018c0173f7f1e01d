"""Split images into training and test parts, and classes into source and held-out ones."""
