"""The figures of a herd's clustering: which are drawn, which not and why, and how it is said."""

import json
import shutil
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imageherd.choosing_beta import BetaChoice
from imageherd.cli import app
from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.report import material
from imageherd.report.figures import DRAWN, write_figures

ALWAYS = {"similarity", "singular-values", "consistency", "neighbors", "maps"}


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, ["report", *map(str, arguments)])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def caption_of(monkeypatch, herd, tmp_path, figure, **options):
    """The caption a figure is drawn with."""
    said = []
    original = material.Material.caption

    def caption(self, *remarks, n=None):
        said.append(original(self, *remarks, n=n))
        return said[-1]

    monkeypatch.setattr(material.Material, "caption", caption)
    monkeypatch.setattr("imageherd.report.figures.DRAWN", {figure: DRAWN[figure]})
    herd.figures(tmp_path / "out", **options)
    return said[0]


def test_the_figures_that_kmeans_allows_and_why_not_the_others(herd, tmp_path):
    found = herd.figures(tmp_path / "out")
    assert set(found.files) >= ALWAYS
    assert set(found.files) | set(found.left_out) == set(DRAWN)
    assert "too few images" in found.left_out["count"]
    assert found.left_out["confusion"] == "it needs labels; give --labels CSV, or folder"
    assert "kmeans has no space of its own" in found.left_out["search"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.png" for name in found.files
    )
    for path in found.files.values():
        assert len(np.unique(pixels(path).reshape(-1, 3), axis=0)) > 50


def test_labels_add_the_confusion_matrix_and_consistency_is_then_of_labels(
    herd, tmp_path, monkeypatch
):
    drawn = {name: DRAWN[name] for name in ("confusion", "consistency")}
    monkeypatch.setattr("imageherd.report.figures.DRAWN", drawn)
    plain = herd.figures(tmp_path / "plain").files
    figures = {}
    monkeypatch.setattr(
        "imageherd.report.plots.save_figure", lambda figure, path: figures.update({path: figure})
    )
    found = herd.figures(tmp_path / "out", labels="folder")
    assert set(plain) == {"consistency"}
    assert set(found.files) == set(drawn)
    evaluation = herd.evaluate("folder")
    axes = figures[found.files["confusion"]].axes[0]
    shares = evaluation.confusion / evaluation.confusion.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), 100 * shares)
    assert [t.get_text() for t in axes.get_yticklabels()] == evaluation.classes
    axes = figures[found.files["consistency"]].axes[0]
    assert axes.get_ylabel() == "same label, %"
    at_20 = axes.lines[0].get_ydata()[19] / 100
    assert at_20 == pytest.approx(evaluation.consistency["labels"], abs=1e-6)


def test_figures_of_another_clustering_do_not_stay(herd, tmp_path, monkeypatch):
    drawn = {name: DRAWN[name] for name in ("confusion", "similarity")}
    monkeypatch.setattr("imageherd.report.figures.DRAWN", drawn)
    out = tmp_path / "out"
    assert set(herd.figures(out, labels="folder").files) == set(drawn)
    herd.figures(out, labels="folder", format="svg")
    for name in ("notes.png", "confusion.txt"):
        (out / name).write_text("mine")
    herd.figures(out)
    left = {path.name for path in out.iterdir()}
    assert left == {"notes.png", "confusion.txt", "similarity.png", "similarity.svg"}


class OwnSpace:
    """A head whose features are three of the columns."""

    history_: ClassVar = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]

    def transform(self, X):
        return X[:, :3]


def test_a_head_with_features_of_its_own_is_searched_in(herd, tmp_path, monkeypatch):
    monkeypatch.setattr(material.Material, "method", "scp")
    monkeypatch.setattr(material.Material, "head", OwnSpace())
    drawn = {name: DRAWN[name] for name in ("search", "training")}
    monkeypatch.setattr("imageherd.report.figures.DRAWN", drawn)
    looked_at = []
    original = material.Material.pictures
    monkeypatch.setattr(
        material.Material, "pictures", lambda m, at: looked_at.append(at) or original(m, at)
    )
    found = herd.figures(tmp_path / "out")
    assert set(found.files) == {"search", "training"}
    (query,), left, right = looked_at
    X = herd.features().X.astype(np.float64)
    for positions, Z in ((left, X), (right, X[:, :3])):
        Z = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-300)
        similar = np.delete(Z @ Z[query], query)
        np.testing.assert_allclose(Z[positions] @ Z[query], np.sort(similar)[::-1][:16], atol=1e-6)
        assert query not in positions
    assert set(left) != set(right)


@pytest.mark.parametrize("n_clusters", [2, 4])
def test_the_curve_that_chose_the_number_is_drawn(herd, tmp_path, monkeypatch, n_clusters):
    figures = []
    monkeypatch.setattr("imageherd.report.figures.DRAWN", {"count": DRAWN["count"]})
    monkeypatch.setattr(
        "imageherd.report.plots.save_figure", lambda figure, path: figures.append(figure)
    )
    found, counted = herd.clustering(), {"ks": [2, 3, 4], "scores": [0.1, 0.3, 0.2]}
    asked = {"rule": "silhouette", "n_clusters": n_clusters}
    found.config["counted"] = counted | asked
    about = (herd.path, found, herd.features(), herd.items(), [])
    write_figures(tmp_path, *about)
    (axes,) = figures[0].axes
    assert axes.get_title(loc="left").startswith("silhouette")
    assert axes.get_ylabel() == "silhouette score"
    assert axes.lines[0].get_ydata().tolist() == [0.1, 0.3, 0.2]
    assert axes.lines[-1].get_xdata().tolist() == [n_clusters]
    # Kept by an earlier version, which had one rule and did not name it.
    found.config["counted"] = counted
    assert "count" in write_figures(tmp_path, *about).left_out


def test_entropies_are_drawn_where_a_beta_was_chosen(herd, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("imageherd.report.figures.DRAWN", {"entropies": DRAWN["entropies"]})
    monkeypatch.setattr(
        "imageherd.report.plots.save_figure", lambda figure, path: figures.append(figure)
    )
    found = herd.clustering()
    about = (herd.path, found, herd.features(), herd.items(), [])
    assert "no β was chosen" in write_figures(tmp_path, *about).left_out["entropies"]
    choice = BetaChoice(0.6, (0.55, 0.6), (1.0, 0.9), (0.8, 0.1))
    found.config["chosen"] = choice.as_dict()
    write_figures(tmp_path, *about)
    even, unsure, most, taken = figures[0].axes[0].lines
    assert even.get_xydata().tolist() == [[0.55, 1.0], [0.6, 0.9]]
    assert unsure.get_ydata().tolist() == [0.8, 0.1]
    assert most.get_ydata()[0] == pytest.approx(np.log(4))
    assert taken.get_xdata()[0] == 0.6


def test_the_same_clustering_gives_the_same_bytes(herd, tmp_path, monkeypatch):
    drawn = {name: DRAWN[name] for name in ("neighbors", "maps")}
    monkeypatch.setattr("imageherd.report.figures.DRAWN", drawn)
    first = herd.figures(tmp_path / "a").files
    second = Herd(herd.path).figures(tmp_path / "b").files
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes()


def test_a_sample_says_that_it_is_one(herd, tmp_path, monkeypatch):
    monkeypatch.setattr(material, "MAX_ROWS", 20)
    said = caption_of(monkeypatch, herd, tmp_path, "singular-values", random_state=5)
    assert "20 of 48 images, drawn at random (seed 5)" in said
    assert "default v0001 by kmeans" in said


def test_all_images_are_no_sample(herd, tmp_path, monkeypatch):
    said = caption_of(monkeypatch, herd, tmp_path, "singular-values")
    assert "; 48 images." in said


def test_photographs_that_are_gone_leave_a_gap(herd, tmp_path, monkeypatch, photos):
    monkeypatch.setattr("imageherd.report.figures.DRAWN", {"neighbors": DRAWN["neighbors"]})
    shutil.move(photos, tmp_path / "away")
    try:
        found = herd.figures(tmp_path / "out")
    finally:
        shutil.move(tmp_path / "away", photos)
    assert set(found.files) == {"neighbors"}


def test_one_image_that_is_left_has_no_neighbors(photos, tmp_path):
    folder = tmp_path / "three"
    folder.mkdir()
    for i, path in enumerate(sorted((photos / "right").glob("*.jpg"))[:3]):
        shutil.copy(path, folder / f"{i}.jpg")
    herd = Herd(tmp_path / "three.herd")
    herd.embed(folder)
    herd.cluster("kmeans", 2)
    for i in range(2):
        (folder / f"{i}.jpg").unlink()
    herd.embed(folder)
    found = herd.figures(tmp_path / "out")
    assert {"similarity", "singular-values", "maps"} <= set(found.files)
    assert found.left_out["neighbors"] == "there is only one image"
    assert "too few images" in found.left_out["count"]


# ---- on the command line


@pytest.fixture
def quick(monkeypatch):
    drawn = {name: DRAWN[name] for name in ("consistency", "confusion")}
    monkeypatch.setattr("imageherd.report.figures.DRAWN", drawn)


@pytest.mark.usefixtures("quick")
def test_report_says_where_the_figures_are_and_which_were_left_out(herd, run):
    done = run(herd.path, "--figures")
    assert done.exit_code == 0, done.output
    folder = herd.path / "report"
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        str(folder / "index.html"),
        str(folder / "figures" / "consistency.png"),
    ]
    assert lines[2] == "Left out: confusion: it needs labels; give --labels CSV, or folder."


@pytest.mark.usefixtures("quick")
def test_report_in_json_with_svg_beside_a_file_of_ones_own(herd, run, tmp_path):
    options = ["--figures", "--format", "svg", "--labels", "folder", "--json"]
    done = run(herd.path, "--output", tmp_path / "mine.html", *options)
    value = json.loads(done.stdout)
    folder = tmp_path / "mine-figures"
    assert value["report"] == str(tmp_path / "mine.html")
    assert value["figures"] == {
        name: str(folder / f"{name}.svg") for name in ("consistency", "confusion")
    }
    assert value["figures_left_out"] == {}
    assert (folder / "confusion.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.usefixtures("quick")
def test_figures_into_a_folder_of_ones_own_leave_what_is_there(herd, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    done = run(herd.path, "--figures-in", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"mine.txt", "consistency.png"}


def test_without_figures_none_are_drawn(herd, run):
    assert run(herd.path).exit_code == 0
    assert not (herd.path / "report" / "figures").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--labels", "folder"], "--labels is about the figures; say --figures as well"),
        (["--format", "svg"], "--format is about the figures; say --figures as well"),
        (["--figures", "--format", "gif"], "--format gif is not known"),
        (["--figures", "--labels", "no.csv"], "no.csv cannot be read"),
        (["--figures-in", __file__], "is a file; name a folder"),
    ],
)
def test_what_was_mistyped_is_said_before_anything_is_written(herd, run, options, says):
    done = run(herd.path, *options)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())
    assert not (herd.path / "report" / "index.html").exists()


def test_a_format_is_checked_in_python_too(herd, tmp_path):
    with pytest.raises(ImageherdError, match="format='gif'"):
        herd.figures(tmp_path, format="gif")
