"""The map over HTTP: its points in a random order, what colours them, and that nothing waits."""

import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from imageherd.app import laying
from imageherd.app.server import create_app
from imageherd.derived import kept_map
from imageherd.evaluation import read_labels

MAP = "/api/clusterings/default/map"


def array(client, what, dtype):
    answer = client.get(f"{MAP}/{what}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    return np.frombuffer(answer.content, dtype)


def test_points_are_the_kept_map_scaled_in_the_order_of_rows(client, herd):
    about = client.get(MAP).json()
    points, rows = array(client, "points", "<f4").reshape(-1, 2), array(client, "rows", "<i4")
    xy = kept_map(herd.path, herd.features())[np.searchsorted(herd.features().rows, rows)]

    assert about["status"] == "ready"
    assert about["n"] == about["n_rows"] == len(points) == 24
    assert sorted(rows) == list(range(24))
    assert list(rows) != sorted(rows)
    half = np.ptp(xy, axis=0).max() / 2
    middle = (xy.min(axis=0) + xy.max(axis=0)) / 2
    np.testing.assert_allclose(points, (xy - middle) / half, atol=1e-6)
    bounds = about["bounds"]
    assert points.min(axis=0).tolist() == [bounds["left"], bounds["bottom"]]
    assert points.max(axis=0).tolist() == [bounds["right"], bounds["top"]]


def test_a_second_server_tells_the_points_in_the_same_order(client, herd):
    again = TestClient(create_app(herd.path, "a-token-for-tests"), base_url="http://127.0.0.1")
    again.headers["Authorization"] = "Bearer a-token-for-tests"

    for what in ("points", "rows"):
        first, second = client.get(f"{MAP}/{what}"), again.get(f"{MAP}/{what}")
        assert first.content == second.content
        assert first.headers["etag"] == second.headers["etag"]


def test_uids_and_confidence_belong_to_the_rows(client, herd):
    rows, found = array(client, "rows", "<i4"), herd.clustering()

    np.testing.assert_array_equal(array(client, "uids", "<i4"), found.uids[rows])
    np.testing.assert_array_equal(array(client, "confidence", "<f4"), found.probability[rows])


def test_after_an_edit_only_what_it_changed_is_sent_anew(client, herd):
    had = {what: client.get(f"{MAP}/{what}") for what in ("points", "rows", "uids")}
    rows = np.frombuffer(had["rows"].content, "<i4")
    to = herd.edit().move(rows[:3].tolist()).payload["to"]
    now = {
        what: client.get(f"{MAP}/{what}", headers={"If-None-Match": answer.headers["etag"]})
        for what, answer in had.items()
    }

    assert {what: answer.status_code for what, answer in now.items()} == {
        "points": 304,
        "rows": 304,
        "uids": 200,
    }
    uids = np.frombuffer(now["uids"].content, "<i4")
    assert uids[:3].tolist() == [to] * 3
    assert (uids[3:] == np.frombuffer(had["uids"].content, "<i4")[3:]).all()


def test_an_outlier_is_at_minus_one(client, herd):
    herd.edit().outlier([5])
    rows = array(client, "rows", "<i4")

    assert array(client, "uids", "<i4")[rows == 5].tolist() == [-1]


def test_folders_colour_the_map_most_frequent_first(client, herd):
    rows = array(client, "rows", "<i4")
    paths = herd.items()["path"].to_pylist()
    answer = client.get(f"{MAP}/labels", params={"of": "folder"}).json()
    codes = np.frombuffer(client.get(f"{MAP}/labels/codes?of=folder").content, "<i4")

    assert answer["kinds"] == ["folder"]
    names = [label["name"] for label in answer["names"]]
    assert {label["size"] for label in answer["names"]} == {12}
    assert names == sorted(names) == ["left", "right"]
    assert [names[c] for c in codes] == [read_labels("folder", paths)[row] for row in rows]


def test_columns_colour_the_map_where_they_tell_kinds_apart(client, herd):
    keys = herd.items()["key"].combine_chunks()
    told = {
        "__key__": keys,
        "season": [("winter", "summer", None, "")[i % 4] for i in range(len(keys))],
        "year": [2020 + i % 2 for i in range(len(keys))],
        "camera": ["the same"] * len(keys),
    }
    (herd.path / "columns").mkdir()
    pq.write_table(pa.table(told), herd.path / "columns" / "source-00000.parquet")
    rows = array(client, "rows", "<i4")
    answer = client.get(f"{MAP}/labels", params={"of": "season"}).json()
    codes = np.frombuffer(client.get(f"{MAP}/labels/codes?of=season").content, "<i4")

    assert answer["kinds"] == ["folder", "season", "year"]
    names = [label["name"] for label in answer["names"]]
    assert [names[c] if c >= 0 else None for c in codes] == [
        told["season"][row] or None for row in rows
    ]


def test_labels_that_are_not_there_are_refused_in_a_sentence(client):
    for path in ("labels", "labels/codes"):
        answer = client.get(f"{MAP}/{path}", params={"of": "colour"})
        assert answer.status_code == 400
        assert answer.json()["detail"] == (
            "There are no labels 'colour' to colour the map with, but folder."
        )


def test_an_unknown_clustering_is_not_found(client):
    for what in ("", "/points", "/rows", "/uids", "/confidence", "/labels"):
        assert client.get(f"/api/clusterings/none/map{what}").status_code == 404


def test_what_has_been_deleted_is_not_on_the_map(client, herd):
    items = herd.path / "items" / "part-00000.parquet"
    table = pq.read_table(items)
    status = pa.array(["deleted", *table["status"].to_pylist()[1:]])
    pq.write_table(
        table.set_column(table.schema.get_field_index("status"), "status", status), items
    )

    about = client.get(MAP).json()

    assert (about["n"], about["n_rows"]) == (23, 24)
    assert 0 not in array(client, "rows", "<i4")
    assert len(array(client, "uids", "<i4")) == 23


def test_while_the_map_is_computed_the_server_says_so_and_answers_the_rest(
    client, herd, monkeypatch
):
    go_on = threading.Event()

    def slow(*given):
        go_on.wait(60)
        return kept_map(*given)

    monkeypatch.setattr(laying, "kept_map", slow)
    monkeypatch.setattr(laying, "PATIENCE", 0.05)

    about = client.get(MAP).json()
    assert about["status"] == "computing"
    assert (about["n"], about["expected"]) == (24, laying.expected_seconds(24))
    time.sleep(0.2)
    assert client.get(MAP).json()["seconds"] > about["seconds"]
    for what in ("points", "rows", "uids", "confidence", "labels"):
        answer = client.get(f"{MAP}/{what}")
        assert answer.status_code == 409
        assert "still being computed" in answer.json()["detail"]
    assert client.get("/api/clusterings/default").status_code == 200

    go_on.set()
    end = time.monotonic() + 60
    while client.get(MAP).json()["status"] == "computing":
        assert time.monotonic() < end
    assert len(array(client, "points", "<f4")) == 48


def test_a_map_that_cannot_be_computed_is_a_sentence_and_is_tried_again(client, herd):
    features = herd.path / "features"
    features.rename(herd.path / "elsewhere")
    answer = client.get(MAP)
    assert answer.status_code == 400
    assert "has no features" in answer.json()["detail"]

    (herd.path / "elsewhere").rename(features)
    assert client.get(MAP).json()["status"] == "ready"


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_points_are_laid_out_too(tmp_path, n):
    items = pa.table({"source": [0] * n, "key": [b"k"] * n, "path": ["p"] * n})
    xy = np.full((n, 2), 7, np.float32)
    laid = laying.lay(tmp_path, items, np.arange(n), xy, np.arange(n))

    assert laid.points.shape == (n, 2)
    assert np.isfinite(laid.points).all()
    assert np.isfinite(laid.bounds).all()


def test_large_maps_take_longer_by_what_is_said():
    seconds = [laying.expected_seconds(n) for n in (100, 600, 3_800, 10_000, 1_000_000)]

    assert seconds == sorted(seconds)
    assert 35 < seconds[3] < 60
