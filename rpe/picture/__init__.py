"""What is looked at: sheets of an image, the loops at work, classes, curves."""
