"""What all still figures share: any text, one look, the same bytes, no state of pyplot's."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from plot_helpers import blobs, rendered

from imageherd.report import plots
from imageherd.report.plots_style import add_caption, shown

HOSTILE = ["$x_{", "a\nb", "lone \udcff surrogate", "50 % & $5 \\", "<b>", "x" * 500, "صور 👕", ""]


# ---- what all share


@pytest.mark.parametrize("text", HOSTILE)
def test_any_name_can_be_drawn_as_it_is(text):
    X, labels = blobs(30, 2)
    figure = plots.maps_figure(X[:, :2], X[:, :2], labels, names=[text, "b"], caption=text)
    rendered(figure)
    drawn = next(t for t in figure.legends[0].get_texts())
    # What matplotlib would set as a formula is none.
    assert drawn._preprocess_math(drawn.get_text())[1] is False


@pytest.mark.filterwarnings("error")
def test_a_character_the_font_lacks_is_a_box_and_no_warning(tmp_path):
    plots.save_figure(plots.consistency_figure({"صور 👕": [1, 0.5]}), tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_shown_is_one_short_line():
    assert shown("a\n b") == "a b"
    assert shown("abcdef", 4) == "abc…"
    assert shown("$1") == r"\$1"
    assert shown("\udcff") == r"\udcff"


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, ending):
    X, labels = blobs(30, 3)

    def written(name):
        path = tmp_path / f"{name}.{ending}"
        plots.save_figure(plots.maps_figure(X[:, :2], X[:, :2], labels, names="abc"), path)
        return path.read_bytes()

    first = written("first")
    assert first == written("second")
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])
    assert {p.name for p in tmp_path.iterdir()} == {f"first.{ending}", f"second.{ending}"}


def test_the_look_is_ours_whatever_the_users_settings_which_stay_theirs(tmp_path):
    def written(name):
        plots.save_figure(plots.consistency_figure({"a": [1, 0.5]}), tmp_path / name)
        return (tmp_path / name).read_bytes()

    plain = written("plain.png")
    theirs = {"axes.facecolor": "red", "font.size": 30, "lines.linewidth": 9, "savefig.dpi": 20}
    with matplotlib.rc_context(theirs):
        assert written("red.png") == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_pyplot_and_its_state_are_not_touched():
    code = (
        "import sys; from imageherd.report import plots\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib is imported too early'\n"
        "figure = plots.consistency_figure({'a': [1, 0.5]}); figure.savefig(sys.stdout.buffer)\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot is imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"\x89PNG")


def test_a_caption_is_wrapped_to_the_width_of_a_figure_made_elsewhere():
    figure = matplotlib.figure.Figure(figsize=(4, 3), layout="constrained")
    figure.subplots().plot([1, 2])
    add_caption(figure, "many words " * 20)
    figure.draw_without_rendering()
    caption = next(t for t in figure.findobj(matplotlib.text.Text) if "many" in t.get_text())
    box = caption.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert "\n" in caption.get_text()


X3, ZERO3 = np.ones((3, 2)), np.zeros(3, int)


@pytest.mark.parametrize(
    ("draw", "names"),
    [
        (lambda: plots.similarity_figure(X3, X3[:2], ZERO3), "before, after and labels"),
        (lambda: plots.similarity_figure(X3[:0], X3[:0], ZERO3[:0]), "at least one"),
        (lambda: plots.singular_values_figure(X3, X3, ZERO3[:1]), "before, after and labels"),
        (lambda: plots.confusion_figure(np.ones((2, 2), int), ["a"], ["b", "c"]), "matrix"),
        (lambda: plots.confusion_figure(np.ones((0, 2), int), [], ["b", "c"]), "at least one"),
        (lambda: plots.consistency_figure({}), "curves"),
        (lambda: plots.consistency_figure({str(i): [1] for i in range(5)}), "1 to 4"),
        (lambda: plots.entropies_figure([0.6], [1, 2], [1], 3), "betas"),
        (lambda: plots.training_figure([{"epoch": 1, "loss": None}]), "history"),
        (lambda: plots.maps_figure(X3, X3, ZERO3[:2]), "labels"),
        (lambda: plots.gallery_figure([None], [], []), "queries, neighbors and same"),
        (lambda: plots.search_figure(None, [], [], [], []), "at least one"),
        (lambda: plots.search_figure(None, [None], [None], [True], []), "left and right"),
        (lambda: plots.save_figure(plots.consistency_figure({"a": [1]}), "x.gif"), "png or svg"),
    ],
)
def test_mistakes_are_named(draw, names):
    with pytest.raises(ValueError, match=names):
        draw()
