"""Archives of images: tar, zip, and shards of WebDataset."""
