"""The errors a user sees."""

from __future__ import annotations


class ImageherdError(Exception):
    """Something the user can put right; the message says what, where and what to do.

    The command line prints the message and exits with 2; it never shows a stack trace for it.
    """
