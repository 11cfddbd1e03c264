"""Lists of paths: CSV as spreadsheets write it, lines that name nothing, files not there."""

import os
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_fakes import World, picture
from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.source import open_source
from imageherd.images.tables.columns import KEY


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "in/b.png"):
        (tmp_path / name).write_bytes(picture(len(name)))
    return tmp_path


def listed(root, text):
    (root / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(root / "list.csv")


@pytest.mark.parametrize(
    "text",
    [
        "path,label\nin/b.png,x\na.png,007\n",
        "\ufeffpath,label\r\nin/b.png,x\r\na.png,007\r\n",
        "path;label\nin/b.png;x\na.png;007",
        "label\tpath\nx\tin/b.png\n007\ta.png\n",
        '"path","label"\n"in/b.png","x"\n./in/../a.png,007\n',
    ],
)
def test_whatever_a_spreadsheet_makes_of_it(root, text):
    source = listed(root, text)
    entries = source.scan()
    assert [(e.key, e.size, e.reason) for e in entries] == [
        (b"a.png", len(picture(5)), ""),
        (b"in/b.png", len(picture(8)), ""),
    ]
    assert source.read(b"in/b.png") == picture(8)
    assert source.columns().to_pydict() == {KEY: [b"in/b.png", b"a.png"], "label": ["x", "007"]}
    assert source.description == "a list with the paths of the images in column path"


def test_lines_that_name_nothing_new_are_passed_over_and_counted(root):
    source = listed(root, "path,n\na.png,1\n,2\n./a.png,3\nin/b.png,4\n\n")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [e.key for e in source.scan()] == [b"a.png", b"in/b.png"]
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 2
    assert "names images more than once; passed over: 1." in texts[0]
    assert "has nothing in column path in some rows; passed over: 1." in texts[1]
    assert source.columns()["n"].to_pylist() == ["1", "4"]


def test_files_that_are_not_there_are_quarantined_and_tried_again(root):
    source = listed(root, f"path\ngone.png\n{root}/a.png\nin\n")
    reasons = {e.key: e.reason for e in source.scan()}
    assert reasons == {
        b"gone.png": "no such file, or a link to nothing",
        os.fsencode(root / "a.png"): "",
        b"in": "a folder, not a file",
    }
    world = World(root / "world", source)
    assert world.embed().n_unreadable == 2
    (root / "gone.png").write_bytes(picture(3))
    summary = world.embed()
    assert (summary.n_embedded, summary.n_unreadable) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read: "),
        ("path\n", "holds no image: it has no rows"),
        ("path,n\n,1\n", "holds no image: its column path is empty"),
        ("a.png\nb.png\n", "first line of .* is an image's path already.*: put the word path"),
        ("path,label\na.png\n", "cannot be read: .*Expected 2 columns, got 1"),
        ("path,x,x\na.png,1,2\n", "several columns 'x'"),
        (b"path\n\xff\xfe.png\n", "cannot be read: .*"),
        ("path\na.png\n".encode("utf-16"), "cannot be read: .*"),
    ],
)
def test_what_is_no_list(root, text, message):
    with pytest.raises(ImageherdError, match=message):
        listed(root, text).scan()


def test_a_zero_byte_in_a_path(root):
    pq.write_table(pa.table({"path": ["a\0b.png", "a.png"]}), root / "list.parquet")
    source = open_source(root / "list.parquet")
    assert [e.reason for e in source.scan()] == ["no path: it has a zero byte", ""]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = pa.array([{"bytes": None, "path": "a\0b.png"}], kind)
    pq.write_table(pa.table({"image": cells}), root / "structs.parquet")
    with pytest.raises(UnreadableImageError, match="zero byte"):
        open_source(root / "structs.parquet").read(b"a\0b.png")
