"""``imageherd count`` tells the number, draws the curve and names what comes next."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from imageherd.counting import DEFAULT_RULE, Count, count_clusters
from imageherd.counting_rules import RULES
from imageherd.heads.cpp import CPP
from imageherd.heads.make import make_head
from imageherd.report.count_plot import count_figure


@pytest.fixture
def blobs(herd):
    """The herd's images are four well-separated groups of forty."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.standard_normal((4, 16))
    X = (centers[np.arange(160) % 4] + rng.standard_normal((160, 16))).astype(np.float32)
    herd.make()
    herd.features = lambda: SimpleNamespace(rows=np.arange(160), X=X, key="lite0-abc")
    return herd


def test_the_number_its_reason_and_the_curve_are_printed(run, blobs):
    result = run("count", blobs.path, "--k-max", 6)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    expected = count_clusters(blobs.features().X, k_max=6)
    assert lines[0] == f"{expected.reason}."
    start = next(i for i, line in enumerate(lines) if line.startswith("clusters"))
    curve = {line.split()[0]: line for line in lines[start + 1 : start + 6]}
    assert list(curve) == ["2", "3", "4", "5", "6"]
    best = curve[str(expected.n_clusters)]
    assert best.rstrip().endswith("best")
    assert any("█" * 40 in line for line in curve.values())
    assert sum("next" in line for line in curve.values()) == 1
    answers = dict(
        line.split()[:2] for line in lines if line.split()[:1] and line.split()[0] in RULES
    )
    assert set(answers) == set(RULES)
    assert answers[DEFAULT_RULE] == str(expected.n_clusters)


def test_one_rule_says_nothing_of_the_others(run, blobs):
    out = run("count", blobs.path, "--rule", "eigengap").stdout
    assert out.startswith("4 clusters: eigengap ")
    assert "silhouette" not in out


def test_all_curves_are_drawn_when_asked_for(run, blobs):
    out = run("count", blobs.path, "--rule", "all", "--k-max", 5, "--quiet").stdout
    heads = [line.split()[1] for line in out.splitlines() if line.startswith("clusters")]
    assert sorted(heads) == sorted(RULES)
    assert heads[0] == DEFAULT_RULE


def test_json_holds_every_curve(run, blobs):
    result = json.loads(run("count", blobs.path, "--k-max", 5, "--json").stdout)
    assert set(result["rules"]) == set(RULES)
    found = result["rules"][DEFAULT_RULE]
    assert found["ks"] == [2, 3, 4, 5]
    assert len(found["scores"]) == 4
    assert result["n_clusters"] == found["n_clusters"]
    assert result["reason"] == found["reason"]


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_figure_is_saved_in_the_format_of_its_name(run, blobs, tmp_path, ending, magic):
    path = tmp_path / f"why.{ending}"
    result = run("count", blobs.path, "--rule", "eigengap", "--figure", path)
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(magic)
    assert str(path) in result.stdout


def test_the_greatest_number_tried_is_no_answer(run, blobs):
    assert "try --k-max 6" in run("count", blobs.path, "--rule", "eigengap", "--k-max", 3).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rule", "eigngap"], "--rule eigngap is not known. Did you mean eigengap?"),
        (["--figure", "why"], "--figure why does not say a format"),
        (["--figure", "why.txt"], "end it in .png, .svg or .pdf"),
        (["--k-min", "1"], "--k-min 1 is too few; give at least 2."),
        (["--k-min", "9", "--k-max", "5"], "--k-max 5"),
        (["--k-min", "161"], "160 images cannot make 161 clusters"),
        (["--rule", "eigengap", "--name", "default"], "--rule eigengap is of no use with --name"),
    ],
)
def test_mistakes_are_told_before_anything_is_counted(run, blobs, options, message):
    result = run("count", blobs.path, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_one_image_is_too_few(run, blobs):
    blobs.features = lambda: SimpleNamespace(rows=np.arange(1), X=np.ones((1, 4)), key="k")
    result = run("count", blobs.path)
    assert result.exit_code == 2
    assert "1 image cannot make 2 clusters" in result.stderr


def test_a_cpp_clustering_is_counted_by_its_own_features(run, blobs):
    X = blobs.features().X
    head = CPP(4, epochs=2, start_epochs=1, min_steps=2, random_state=0).fit(X)
    head.save(blobs.path / "clusterings" / "own" / "v0001")
    blobs.clustering = lambda name: SimpleNamespace(version="v0001")
    result = run("count", blobs.path, "--name", "own", "--k-max", 4, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["rules"]
    assert list(found) == ["coding-length"]
    lengths = head.coding_length_curve([2, 3, 4]).lengths / 160
    np.testing.assert_allclose(found["coding-length"]["scores"], lengths, rtol=1e-6)


def test_what_is_no_cpp_clustering_has_no_features_of_its_own(run, blobs):
    head = make_head("kmeans", 2, 160, random_state=0, device="cpu").fit(blobs.features().X)
    head.save(blobs.path / "clusterings" / "plain" / "v0001")
    blobs.clustering = lambda name: SimpleNamespace(version="v0001")
    result = run("count", blobs.path, "--name", "plain")
    assert result.exit_code == 2
    assert "was not made with --method cpp" in result.stderr


def test_the_figure_has_a_panel_a_rule_with_the_answer_marked():
    counts = [
        Count(3, (2, 3, 4), (0.1, 0.5, 0.2), "silhouette"),
        Count(2, (2, 3, 4), (5.0, 6.0, 7.0), "coding-length"),
    ]
    panels = count_figure(counts).axes
    assert [panel.get_title() for panel in panels] == ["silhouette: 3", "coding-length: 2"]
    curve, others, best = panels[0].lines
    np.testing.assert_array_equal(curve.get_xydata(), [[2, 0.1], [3, 0.5], [4, 0.2]])
    np.testing.assert_array_equal(best.get_xydata(), [[3, 0.5]])
    assert sorted(others.get_xdata()) == [2, 4]
    with pytest.raises(ValueError, match="at least one"):
        count_figure([])


def test_too_few_images_are_one_line_and_no_curve(run, herd):
    herd.make()
    result = run("count", herd.path)
    assert result.stdout == ("1 cluster, but this is no count: no two images differ.\n")
    told = json.loads(run("count", herd.path, "--json").stdout)
    assert (told["n_clusters"], told["compared"]) == (1, False)
    assert told["rules"][DEFAULT_RULE]["why_no_choice"] == "no two images differ"
