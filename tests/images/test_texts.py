"""A file of texts: which lines are texts, which words are labels, and what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.source import open_source, source_from_uri
from imageherd.images.tables.columns import KEY
from imageherd.images.texts import NO_TEXT, NOT_UTF8, TextFile, excerpt


@pytest.fixture
def write(tmp_path):
    def made(content):
        path = tmp_path / "texts.txt"
        path.write_bytes(content)
        return TextFile(path)

    return made


def texts_of(source):
    return {entry.key: source.text(entry.key) for entry in source.scan() if not entry.reason}


def test_lines_are_texts_by_number_and_blank_ones_are_passed_over(write):
    source = write(b"\xef\xbb\xbffirst line\r\n\n  second \xc3\xa9  \n \t\nlast")
    assert texts_of(source) == {
        b"0000001": "first line",
        b"0000003": "second é",
        b"0000005": "last",
    }
    assert source.columns().column_names == [KEY, "text"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("texts") / "t.txt"
    path.write_text("\n".join(lines), "utf-8", newline="\n")
    expected = [line.strip(" ") for line in lines if line.strip(" ")]
    source = TextFile(path)
    if not expected:
        with pytest.raises(ImageherdError, match="holds no text"):
            source.scan()
        return
    assert list(texts_of(source).values()) == expected


def test_labels_are_told_by_a_tab_in_every_line(write):
    source = write(b"earn\tprofit rose\nacq\ta merger\nearn\tloss\tof two\nacq\tbuys\n")
    assert list(texts_of(source).values()) == ["profit rose", "a merger", "loss\tof two", "buys"]
    assert source.columns()["label"].to_pylist() == ["earn", "acq", "earn", "acq"]
    assert "one of 2 labels" in source.description
    assert "the label 'a' and a tab" in write(b"a\tone line").description


@pytest.mark.parametrize(
    "content",
    [
        b"earn\tprofit\nearn\tloss\nno tab here\n",
        b"\tprofit\n\tloss\n",
        b"x" * 101 + b"\tafter a long beginning",
    ],
)
def test_other_tabs_are_part_of_the_text(write, content):
    source = write(content)
    assert "label" not in source.columns().column_names
    assert next(iter(texts_of(source).values())) == content.split(b"\n")[0].strip().decode()


def test_lines_that_are_no_text_are_listed_with_the_reason(write):
    source = write(b"a\tgood\na\t\xff\xfe\nb\t\nb\tgood\n")
    assert [entry.reason for entry in source.scan()] == ["", NOT_UTF8, NO_TEXT, ""]
    with pytest.raises(UnreadableImageError, match=NOT_UTF8):
        source.read(b"0000002")
    with pytest.raises(UnreadableImageError, match="no such line"):
        source.read(b"0000009")


def test_an_empty_file_a_folder_and_no_file_are_refused(write, tmp_path):
    with pytest.raises(ImageherdError, match="holds no text"):
        write(b"\n \n").scan()
    with pytest.raises(ImageherdError, match="is a folder"):
        TextFile(tmp_path)
    with pytest.raises(ImageherdError, match="no file"):
        TextFile(tmp_path / "gone.txt")


@pytest.mark.parametrize("content", ["some words".encode("utf-16"), b"PK\x03\x04\x00\x00"])
def test_what_is_no_text_is_refused_as_a_whole(write, content):
    with pytest.raises(ImageherdError, match=r"zero bytes.*save it as UTF-8"):
        write(content)


def test_it_is_found_by_its_uri_and_by_its_name(write):
    source = write(b"some words\n")
    assert texts_of(source_from_uri(source.uri)) == {b"0000001": "some words"}
    assert isinstance(open_source(source.root), TextFile)
    assert source.shown(b"0000001").endswith("texts.txt:1")
    source.root.unlink()
    gone = source_from_uri(source.uri)
    assert not gone.is_there()
    with pytest.raises(UnreadableImageError):
        gone.read(b"0000001")


def test_a_list_of_images_is_not_taken_for_texts(write):
    with pytest.raises(ImageherdError):
        open_source(write(b"photos/a.jpg\nphotos/b.jpg\n").root)


def test_an_excerpt_ends_between_words():
    assert excerpt("one  two\nthree") == "one two three"
    assert excerpt("one two three", 8) == "one two …"
    assert excerpt("x" * 30, 8) == "x" * 8 + " …"
