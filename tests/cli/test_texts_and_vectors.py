"""Texts and vectors through the verbs, from the file to the report and back."""

import json

import numpy as np
import pytest

from imageherd.features.tfidf import FILE

KINDS = {
    "crude": "oil barrels crude opec output prices exporters",
    "grain": "wheat corn grain harvest tonnes crop export",
    "ship": "ship port cargo vessels strike harbour gulf",
}


def lines(n, seed):
    rng = np.random.default_rng(seed)
    for i in range(n):
        label = list(KINDS)[i % 3]
        yield f"{label}\tthe company said {' '.join(rng.choice(KINDS[label].split(), 6))}\n"


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "news.txt"
    file.write_text("".join(lines(60, 0)) + "ship\tthe <b>and</b> of ships\n", "utf-8")
    return file


def test_from_texts_to_clusters_report_and_new_texts(run, texts, tmp_path):
    embedded = run("embed", "--tfidf", texts)
    assert embedded.exit_code == 0, embedded.output
    assert "61 texts" in embedded.output
    assert "one of 3 labels" in embedded.output
    vocabulary = json.loads(
        next(tmp_path.glob("news.herd/features/*/*")).parent.joinpath(FILE).read_text()
    )
    assert {"oil", "wheat", "ship"} <= set(vocabulary["terms"])
    clustered = run("cluster", "news.herd", "--method", "kmeans", "--n-clusters", 3, "--json")
    names = [c["name"] for c in json.loads(clustered.stdout)["clustering"]["clusters"]]
    for words in KINDS.values():
        assert sum(set(name.split(", ")) <= set(words.split()) for name in names) == 1
    scored = run("evaluate", "news.herd", "--labels", "column:label").output
    assert "On 61 texts." in scored
    assert "image" not in scored
    assert run("report", "news.herd").exit_code == 0
    page = (tmp_path / "news.herd/report/index.html").read_text("utf-8")
    assert "the <b>and</b> of ships" not in page
    shown = json.loads(page.partition('id="contents">')[2].partition("</script>")[0])
    assert shown["noun"] == ["text", "texts"]
    assert any("company said" in text for text in shown["texts"].values())
    assert any("<b>and</b>" in text for text in shown["texts"].values())

    (tmp_path / "new.txt").write_text("".join(lines(3, 1)) + "ship\tunheard of\n", "utf-8")
    placed = json.loads(run("assign", "news.herd", "new.txt", "--reject", 0, "--json").stdout)
    assert len(placed["images"]) == 3
    for image, words in zip(placed["images"], KINDS.values(), strict=True):
        assert set(image["cluster"].split(", ")) <= set(words.split())
    again = json.loads(
        next(tmp_path.glob("news.herd/features/*/*")).parent.joinpath(FILE).read_text()
    )
    assert again == vocabulary


def test_texts_are_searched_by_words_and_exported_as_files(run, texts, tmp_path):
    run("embed", texts)
    found = json.loads(
        run("search", "news.herd", "--text", "Wheat harvest", "-n", 3, "--json").stdout
    )
    assert all("wheat" in image["text"] or "harvest" in image["text"] for image in found["images"])
    found = json.loads(run("search", "news.herd", "--text", "wheat", "--json").stdout)["images"]
    assert all("wheat" in image["text"] for image in found), "no answer: those without the word"
    said = run("search", "news.herd", "--text", "unheard")
    assert said.exit_code == 2
    assert "None of the words" in said.output
    sheet = run("search", "news.herd", "--item", "0000061", "--sheet", "s.html")
    assert sheet.exit_code == 0, sheet.output
    page = (tmp_path / "s.html").read_text("utf-8")
    assert "no picture" not in page
    run("cluster", "news.herd", "--method", "kmeans", "--n-clusters", 3)
    assert run("export", "news.herd", "out", "--to", "folders").exit_code == 0
    assert len(list((tmp_path / "out").glob("*/*.txt"))) == 61
    assert run("export", "news.herd", "out.csv").exit_code == 0
    assert "<b>and</b> of ships" in (tmp_path / "out.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no text"),
        (b"\n \n", "holds no text"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"the of and\n", "no word in the texts"),
    ],
)
def test_files_without_texts_say_so(run, tmp_path, content, words):
    (tmp_path / "t.txt").write_bytes(content)
    result = run("embed", "--tfidf", "t.txt")
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "t.herd" / "herd.json").exists()


def test_one_text_is_a_herd_but_no_clustering(run, tmp_path):
    (tmp_path / "t.txt").write_text("a single line of words")
    assert run("embed", "--tfidf", "t.txt").exit_code == 0
    result = run("cluster", "t.herd", "--n-clusters", 2)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tfidf", "--vectors", "v.npy"], "neither vectors nor columns"),
        (["--keys", "k.txt"], "--vectors FILE"),
        (["--vectors", "v.npy"], "leave it out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, texts, tmp_path, options, words):
    np.save(tmp_path / "v.npy", np.eye(3))
    result = run("embed", texts, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
