"""A person's edits of a clustering: a journal that only grows, and the state that it leads to."""
