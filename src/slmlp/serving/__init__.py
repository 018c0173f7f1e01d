"""Pages of a folder's studies and runs over HTTP, with curves of those that train; it only reads."""
