"""Draw pictures: sheets of an image, mean-shift loops, classes, curves."""
