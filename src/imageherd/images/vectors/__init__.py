"""Vectors that someone has computed of something, perhaps of images."""
