"""Where images come from: finding the files, reading them, decoding them."""
