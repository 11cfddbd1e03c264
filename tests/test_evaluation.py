from types import SimpleNamespace

import numpy as np
import pytest

from imageherd.errors import ImageherdError
from imageherd.evaluation import evaluate, read_labels
from imageherd.neighbors import knn_graph
from test_clustering import clustering

PATHS = ["cats/1.jpg", "cats/2.jpg", "dogs/1.jpg", "dogs/3.jpg"]


def test_folders_are_labels():
    assert read_labels("folder", PATHS) == ["cats", "cats", "dogs", "dogs"]
    with pytest.raises(ImageherdError, match="No image lies in a subfolder"):
        read_labels("folder", ["1.jpg"])


def test_a_csv_names_paths_or_unambiguous_files(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("label,path\ncat,cats/1.jpg\ncat,2.jpg\nwrong,1.jpg\n,dogs/3.jpg\n")
    assert read_labels(file, PATHS) == ["cat", "cat", None, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na,b\n", "no column path"),
        ("", "no column label and no column path"),
        ("path,label\nelsewhere.jpg,b\n", "labels none of the images.*'elsewhere.jpg'"),
        ("path,label\n", "has no row with a label"),
        ("path,label\ncats/1.jpg\n", "has no row with a label"),
    ],
)
def test_a_csv_that_does_not_fit_says_why(tmp_path, content, message):
    file = tmp_path / "labels.csv"
    file.write_text(content)
    with pytest.raises(ImageherdError, match=message):
        read_labels(file, PATHS)


def test_a_missing_or_binary_file_says_so(tmp_path):
    with pytest.raises(ImageherdError, match="cannot be read"):
        read_labels(tmp_path / "no.csv", PATHS)
    (tmp_path / "binary.csv").write_bytes(b"path,label\n\xff\xfe,\xff\n")
    with pytest.raises(ImageherdError, match="UTF-8"):
        read_labels(tmp_path / "binary.csv", PATHS)
    (tmp_path / "endless.csv").write_text("path,label\n" + "x" * 200_000)
    with pytest.raises(ImageherdError, match="not a CSV"):
        read_labels(tmp_path / "endless.csv", PATHS)


# Three images at each of two ends of the plane.
X = np.array([[9, 1], [9, 2], [9, 3], [1, 9], [2, 9], [3, 9]], dtype=np.float32)
P = np.array([[0.8, 0.2]] * 3 + [[0.2, 0.8]] * 3, dtype=np.float32)


def evaluated(found, labels):
    store = SimpleNamespace(key="f", read=lambda rows: X[rows])
    head = SimpleNamespace(predict_proba=lambda x: P[: len(x)])
    return evaluate(found, labels, store, head, lambda f: knn_graph(f.X, min(2, len(f.X) - 1)))


def test_what_has_no_label_or_no_cluster_is_left_out_and_counted():
    found = clustering([0, 0, 0, 1, 1, 1])
    found.uids[5] = -1
    result = evaluated(found, ["a", "a", "b", "b", None, "b"])
    assert (result.n_images, result.n_unlabelled, result.n_nowhere) == (4, 1, 1)
    assert result.scores["ACC"] == pytest.approx(3 / 4)
    assert result.confusion.tolist() == [[2, 0], [1, 1]]
    assert result.classes == ["a", "b"]
    with pytest.raises(ImageherdError, match="nothing to evaluate"):
        evaluated(found, [None] * 6)


def test_neighbors_agree_with_the_clusters_or_with_the_labels():
    result = evaluated(clustering([0, 0, 0, 1, 1, 1]), ["a", "b", "a", "b", "a", "b"])
    assert result.consistency == {"clusters": 1.0, "labels": pytest.approx(1 / 3)}
    assert result.entropies == {
        "clusters": pytest.approx(np.log(2)),
        "images": pytest.approx(-0.8 * np.log(0.8) - 0.2 * np.log(0.2)),
        "most": pytest.approx(np.log(2)),
    }


def test_one_label_for_all_tells_nothing():
    with pytest.raises(ImageherdError, match="have the same one, 'a': that says nothing"):
        evaluated(clustering([0, 0, 0, 1, 1, 1]), ["a", "a", None, "a", "a", "a"])
