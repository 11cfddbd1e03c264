"""Labels and further columns from a source's table to what comes out of a herd."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from imageherd.columns import columns_of, keep_columns, labels_in_column
from imageherd.errors import ImageherdError
from imageherd.export import _ADDED, assignments_table
from imageherd.herd import Herd
from imageherd.images.tables.columns import KEY


class Told:
    """A source that says something."""

    def __init__(self, **columns):
        self.table = pa.table({KEY: pa.array(columns.pop("keys"), pa.binary()), **columns})

    def columns(self):
        return self.table


def items(*pairs):
    sources, keys = zip(*pairs, strict=True)
    return pa.table({"source": pa.array(sources, pa.int16()), "key": pa.array(keys, pa.binary())})


def test_each_item_gets_what_its_own_source_said(tmp_path):
    keep_columns(tmp_path, 0, Told(keys=[b"b", b"a"], label=["B", "A"], n=[2, 1]))
    keep_columns(tmp_path, 2, Told(keys=[b"a", b"c"], n=[10, 30], x=[True, None]))
    found = columns_of(tmp_path, items((2, b"c"), (0, b"a"), (1, b"a"), (2, b"a"), (0, b"gone")))
    assert found.to_pydict() == {
        "label": [None, "A", None, None, None],
        "n": [30, 1, None, 10, None],
        "x": [None, None, None, True, None],
    }


def test_values_of_different_types_become_text(tmp_path):
    keep_columns(tmp_path, 0, Told(keys=[b"a"], label=[7]))
    keep_columns(tmp_path, 1, Told(keys=[b"a"], label=["seven"]))
    asked = items((1, b"a"), (0, b"a"))
    assert columns_of(tmp_path, asked)["label"].to_pylist() == ["seven", "7"]
    assert labels_in_column(tmp_path, asked, "label") == ["seven", "7"]


def test_what_was_said_last_counts(tmp_path):
    one = items((0, b"a"))
    keep_columns(tmp_path, 0, Told(keys=[b"a"], label=["old"]))
    keep_columns(tmp_path, 0, Told(keys=[b"a"], label=["new"]))
    assert columns_of(tmp_path, one)["label"].to_pylist() == ["new"]
    for silent in (Told(keys=[b"a"]), object()):
        keep_columns(tmp_path, 0, Told(keys=[b"a"], label=["new"]))
        keep_columns(tmp_path, 0, silent)
        assert columns_of(tmp_path, one).column_names == []


def test_a_herd_without_columns(tmp_path):
    assert columns_of(tmp_path, items((0, b"a"), (3, b"b"))).column_names == []
    assert columns_of(tmp_path, items((0, b"a")).slice(0, 0)).column_names == []
    with pytest.raises(ImageherdError, match="there are no columns at all: give a CSV"):
        labels_in_column(tmp_path, items((0, b"a")), "label")


def test_labels_that_are_not_there(tmp_path):
    keep_columns(tmp_path, 0, Told(keys=[b"a", b"b"], label=["", None], n=[1, 2]))
    asked = items((0, b"a"), (0, b"b"))
    with pytest.raises(ImageherdError, match=r"without a column 'labl'; there are label, n\."):
        labels_in_column(tmp_path, asked, "labl")
    with pytest.raises(ImageherdError, match=r"column 'label' .* is empty"):
        labels_in_column(tmp_path, asked, "label")
    assert labels_in_column(tmp_path, asked, "n") == ["1", "2"]


def test_a_damaged_file_says_what_to_do(tmp_path):
    keep_columns(tmp_path, 0, Told(keys=[b"a"], label=["x"]))
    (tmp_path / "columns" / "source-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImageherdError, match="Delete it and run embed again"):
        columns_of(tmp_path, items((0, b"a")))


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """A herd of a list that says which folder an image is in, and its number."""
    root = tmp_path_factory.mktemp("listed")
    shutil.copytree(photos, root / "clothes")
    lines = [
        f"{path.relative_to(root).as_posix()},{path.parent.name},{i}"
        for i, path in enumerate(sorted((root / "clothes").rglob("*.jpg")))
    ]
    (root / "list.csv").write_text("\n".join(["path,side,name", *lines, "gone.jpg,left,99"]))
    herd = Herd(root / "listed.herd")
    herd.embed(root / "list.csv")
    herd.cluster("kmeans", 4)
    return herd


def test_labels_of_a_list_judge_a_clustering(made):
    found = made.evaluate("column:side")
    assert found.classes == ["left", "right"]
    assert found.scores == made.evaluate("folder").scores
    with pytest.raises(ImageherdError, match="there are side, name"):
        made.evaluate("column:label")


def test_tables_have_the_columns_beside_their_own(made, tmp_path):
    table = pq.read_table(made.export(tmp_path / "out.parquet", to="parquet"))
    rows = {row["path"]: row for row in table.to_pylist()}
    assert len(rows) == 50
    assert rows["gone.jpg"]["source_name"] == "99"
    names = {cluster.name for cluster in made.clustering().clusters}
    for path, row in rows.items():
        assert row["side"] == ("left" if path == "gone.jpg" else path.split("/")[1])
        assert row["name"] in (names if row["status"] == "ok" else {None})
    assert table.column_names[-1] == "features"
    listed = pyarrow.csv.read_csv(made.export(tmp_path / "out.csv"))
    assert listed.column_names == table.column_names[:-1]
    made.cluster("kmeans", 3, name="other")
    review = pyarrow.csv.read_csv(made.export(tmp_path / "r.csv", review=5, name="other"))
    sides = {row["path"]: row["side"] for row in review.to_pylist()}
    assert sides == {path: rows[path]["side"] for path in sides}


def test_no_column_takes_anothers_name(made):
    known = made.items()
    own = assignments_table(made.clustering(), known).column_names
    names = [*own, *_ADDED, "source_row"]
    told = pa.table({name: np.arange(len(known)) for name in names})
    table = assignments_table(made.clustering(), known, told)
    assert len(set(table.column_names)) == len(table.column_names) == len(own) + len(names)
    assert not {*_ADDED} & {*table.column_names}


def test_a_new_list_says_anew(made, tmp_path):
    herd = Herd(shutil.copytree(made.path, tmp_path / "again.herd"))
    file = made.path.parent / "list.csv"
    before = file.read_text()
    try:
        file.write_text(before.replace("path,side,name", "path,hand,number"))
        summary = herd.embed(file)
        assert summary.n_embedded == 0
        assert columns_of(herd.path, herd.items()).column_names == ["hand", "number"]
    finally:
        file.write_text(before)
