"""Feature spaces that images are compared in: pixels, pretrained networks, a classifier of the data itself."""
