"""What makes training on a CPU faster, each with its measured gain."""
