"""Read a source of images into a table: folders, tars, manifests, arrays, torchvision's data sets."""
