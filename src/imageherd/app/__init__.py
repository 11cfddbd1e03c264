"""The browser interface: a JSON API over a herd on disk, and the page that uses it."""
