"""Paths as text, and back to the bytes they were."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd.errors import ImageherdError
from imageherd.images.names import display_path, key_from_display


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_come_back(key):
    shown = display_path(key)
    assert key_from_display(shown) == key
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_comes_back(text):
    key = text.encode("utf-8", "surrogatepass")
    assert key_from_display(display_path(key)) == key


@given(st.binary(max_size=8), st.binary(max_size=8))
@settings(deadline=None)
def test_two_keys_never_look_the_same(a, b):
    assert (display_path(a) == display_path(b)) == (a == b)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"2024/IMG 1.jpg", "2024/IMG 1.jpg"),
        ("Ärger/写真🐑.jpg".encode(), "Ärger/写真🐑.jpg"),
        (b"a\\b", r"a\\b"),
        (b"\\xff", r"\\xff"),
        (b"caf\xe9", r"caf\xe9"),
        (b"a\nb\x1b[31m\x7f", r"a\x0ab\x1b[31m\x7f"),
        ("\x85\u2028".encode(), r"\xc2\x85\xe2\x80\xa8"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
    ],
)
def test_examples(key, shown):
    assert display_path(key) == shown


@pytest.mark.parametrize("text", ["a\\b", "\\", "\\xg0", "\\x1", "\\\\\\"])
def test_a_lone_backslash_is_an_error(text):
    with pytest.raises(ImageherdError, match="backslash"):
        key_from_display(text)


@pytest.mark.skipif(os.name != "posix", reason="POSIX file names")
def test_an_argument_of_the_command_line_that_is_not_utf8():
    assert key_from_display(os.fsdecode(b"\xff.jpg")) == b"\xff.jpg"
