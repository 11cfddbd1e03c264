"""Tables of images, or of their paths and URLs."""
