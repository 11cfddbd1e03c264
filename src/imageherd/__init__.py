"""imageherd."""
