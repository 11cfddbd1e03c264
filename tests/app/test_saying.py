"""What is said of entries of the journal."""

from imageherd.app.saying import sentences, told
from imageherd.edits.journal import Edit


def entries(*changes):
    return [
        Edit(seq, f"id{seq}", "now", "Ann", "v0001", kind, payload)
        for seq, (kind, payload) in enumerate(changes, 1)
    ]


def known(version):
    return {1: ("boots", 10), 2: ("shoes", 20)}


def said(*changes, noun="image"):
    return list(sentences(entries(*changes), known, noun).values())


def test_names_are_those_that_clusters_had_then():
    assert said(
        ("rename", {"uid": 1, "name": "wellies"}),
        ("merge", {"uids": [1, 2], "to": 3}),
        ("split", {"uid": 3, "parts": [[1], [2, 3]], "uids": [4, 5]}),
        ("outlier", {"rows": [1]}),
        ("move", {"rows": [1], "to": 5, "new": False}),
    ) == [
        "Renamed “boots” to “wellies”",
        "Merged “wellies” and “shoes”",
        "Split “shoes” in 2",
        "Said that 1 image fits nowhere",
        "Moved 1 image to “shoes 2”",
    ]


def test_undoing_a_renaming_gives_the_old_name_back():
    assert said(
        ("rename", {"uid": 1, "name": "wellies"}),
        ("undo", {"of": 1}),
        ("rename", {"uid": 1, "name": "gumboots"}),
        ("undo", {"of": 3}),
        ("redo", {"of": 3}),
        ("merge", {"uids": [1, 2], "to": 3}),
    )[1:] == [
        "Undid: renamed “boots” to “wellies”",
        "Renamed “boots” to “gumboots”",
        "Undid: renamed “boots” to “gumboots”",
        "Did again: renamed “boots” to “gumboots”",
        "Merged “gumboots” and “shoes”",
    ]


def test_a_cluster_that_nothing_is_known_of_has_its_number():
    assert said(("merge", {"uids": [7, 8, 9], "to": 10}), noun="text") == [
        "Merged “cluster 7”, “cluster 8” and “cluster 9”"
    ]


def test_a_sentence_names_five_at_most():
    words = said(("merge", {"uids": [1, 2, 3, 4, 5, 6, 7], "to": 8}))[0]
    assert words == ("Merged “boots”, “shoes”, “cluster 3”, “cluster 4”, “cluster 5” and 2 others")


def test_long_lists_of_rows_are_counted_not_sent():
    short, long = entries(
        ("move", {"rows": [1, 2], "to": 2, "new": False}),
        ("split", {"uid": 1, "parts": [list(range(900)), list(range(900, 1800))], "uids": [3, 4]}),
    )
    words = sentences([short, long], known)
    assert told(short, words).payload == {"rows": [1, 2], "to": 2, "new": False, "n_rows": 2}
    assert told(long, words).payload == {
        "uid": 1,
        "uids": [3, 4],
        "sizes": [900, 900],
        "n_rows": 1800,
    }
    assert words[1] == "Moved 2 images to “shoes”"
