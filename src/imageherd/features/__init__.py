"""Features on disk: the rows of a herd, the shards that follow them, and the pipeline between."""
