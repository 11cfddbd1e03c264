"""Rows by key and by content, against dictionaries."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageherd.features import known
from imageherd.features.known import RowOfContent, RowsOfEntries

KEYS = [b"", b"\x00", b"B", b"a", b"a/b", b"a b", b"\xff\xfe", "é".encode()]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from(KEYS), st.booleans()), max_size=30),
    st.sets(st.sampled_from(KEYS)),
)
def test_each_entry_finds_the_rows_of_its_key_and_source(rows, scanned):
    table = pa.table(
        {
            "row": pa.array(range(len(rows)), pa.int64()),
            "source": pa.array([source for source, _, _ in rows], pa.int16()),
            "key": pa.array([key for _, key, _ in rows], pa.binary()),
            "bytes": pa.array(range(len(rows)), pa.int64()),
            "mtime_ns": pa.array([0] * len(rows), pa.int64()),
            "status": pa.array(["ok" if live else "deleted" for *_, live in rows], pa.string()),
        }
    )
    if len(rows) > 2:
        table = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    entries = [SimpleNamespace(key=key) for key in sorted(scanned)]
    found = RowsOfEntries(table, 1, entries)
    of = {key: [i for i, r in enumerate(rows) if r[:2] == (1, key)] for key in KEYS}
    assert [found.of(at) for at in range(len(entries))] == [of[e.key] for e in entries]
    left = sorted(row for key in KEYS if key not in scanned for row in of[key])
    assert sorted(found.left.tolist()) == left
    assert found.live.tolist() == [live for *_, live in rows]


@pytest.mark.parametrize("collide", [False, True])
@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.booleans()), max_size=12))
def test_a_content_is_in_its_lowest_row_that_has_a_vector(collide, rows):
    with pytest.MonkeyPatch.context() as patched:
        if collide:
            patched.setattr(known, "hash", lambda text: 7, raising=False)
        hashes = pa.chunked_array([pa.array([content for content, _ in rows], pa.string())])
        present = np.array([has for _, has in rows], dtype=bool)
        found = RowOfContent(hashes, present)
        expected: dict[str, int] = {}
        for row, (content, has) in enumerate(rows):
            if has and content is not None:
                expected.setdefault(content, row)
        for content in ("a", "b", "c", "d"):
            assert (content in found) == (content in expected)
            assert found.get(content) == expected.get(content)
            assert found.setdefault(content, 99) == expected.get(content, 99)
            assert found.get(content) == expected.get(content, 99)


def test_fewer_vectors_than_rows():
    hashes = pa.chunked_array([pa.array(["a", "b", "c"])])
    found = RowOfContent(hashes, np.array([True, False]))
    assert [found.get(text) for text in "abc"] == [0, None, None]
