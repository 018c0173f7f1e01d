"""Where images come from: folders, tars, manifests, arrays, torchvision data sets."""
