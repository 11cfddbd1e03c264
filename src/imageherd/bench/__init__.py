"""Methods, feature sets and seeds against each other, and the papers' tables to hold them to."""
