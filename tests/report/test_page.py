"""The written file: one, whole, small enough, and with nothing in it that fetches or runs."""

import base64
import io
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import report_fakes
from PIL import Image

from imageherd.report import MAX_BYTES, write_report
from imageherd.report.payload import MAX_PATH_BYTES, NO_NUMBER, to_json


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements, self.within, self.texts = [], None, {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.within = dict(attrs).get("id") or tag

    def handle_data(self, data):
        self.texts[self.within] = self.texts.get(self.within, "") + data


def written(tmp_path, **settings):
    path = write_report(report_fakes.fake_report(**settings), tmp_path / "index.html")
    page = Page(path.read_text(encoding="utf-8"))
    return path, page, json.loads(page.texts["contents"])


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def test_nothing_is_fetched_and_only_the_reports_own_scripts_run(tmp_path):
    path, page, _ = written(tmp_path, n=30, paths=report_fakes.HOSTILE)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert [tag for tag, _ in page.elements].count("script") == 3
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not re.search(r"@import|url\(|https?://", path.read_text(encoding="utf-8"))


def test_names_cannot_leave_the_json(tmp_path):
    path, page, contents = written(tmp_path, n=30, paths=report_fakes.HOSTILE, title="</title><b>")
    inside = page.texts["contents"]
    assert "<" not in inside
    assert set(report_fakes.HOSTILE[:8]) <= set(contents["paths"])
    assert "</title><b>" not in path.read_text(encoding="utf-8")


def test_a_title_that_looks_like_the_place_of_the_contents_does_no_harm(tmp_path):
    _, _, contents = written(tmp_path, title="@@contents@@ {{ contents }}")
    assert contents["title"] == "@@contents@@ {{ contents }}"


def test_json_that_can_stand_in_a_script_reads_back_as_it_was():
    value = {"a": "</script><!--&\u2028", "b": "\\x00", "c": [1, None, "é🐑"]}
    encoded = to_json(value)
    assert not set(b"<>&") & set(encoded)
    assert json.loads(encoded) == value
    assert json.loads(to_json("a\udcffb")) == r"a\udcffb"
    with pytest.raises(ValueError):
        to_json(float("nan"))


def test_every_number_refers_to_something_and_every_picture_is_there_once(tmp_path):
    _, _, contents = written(tmp_path, n=90, n_clusters=3, nowhere=6)
    paths, thumbnails = contents["paths"], contents["thumbnails"]
    assert sorted(paths) == sorted({f"holiday/photo-{i:06d}.jpg" for i in range(90)})
    ranges = [range(c["start"], c["start"] + c["listed"]) for c in contents["clusters"]]
    assert [i for r in ranges for i in r] == list(range(90))
    for cluster, own in zip(contents["clusters"], ranges, strict=True):
        for kind in ("medoids", "typical", "doubtful"):
            assert all(i in own and str(i) in thumbnails for i in cluster[kind])
    assert len(set(thumbnails.values())) == len(thumbnails) == 90
    for text in thumbnails.values():
        Image.open(io.BytesIO(base64.b64decode(text))).verify()
    image = unpacked(contents["map"]["image"], "<u4")
    cluster = unpacked(contents["map"]["cluster"], "<u4")
    assert sorted(image) == list(range(90))
    for i, own in zip(image, cluster, strict=True):
        assert i in ranges[own]
    assert contents["clusters"][-1]["name"] == "Fits nowhere"
    assert contents["clusters"][-1]["size"] == 6


def test_members_run_from_the_surest_to_the_most_doubtful(tmp_path):
    data = report_fakes.fake_report(60, 2)
    write_report(data, tmp_path / "index.html")
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    contents = json.loads(page.texts["contents"])
    sure = dict(zip(data.paths, data.probability, strict=True))
    for cluster in contents["clusters"]:
        own = contents["paths"][cluster["start"] :][: cluster["listed"]]
        assert [sure[p] for p in own] == sorted((sure[p] for p in own), reverse=True)


def test_a_cluster_of_what_fits_nowhere_that_is_given_is_not_doubled(tmp_path):
    data = report_fakes.fake_report(30, 2)
    data.clusters[0].uid = -1
    data.labels[data.labels == 0] = -1
    write_report(data, tmp_path / "index.html")
    contents = json.loads(Page((tmp_path / "index.html").read_text("utf-8")).texts["contents"])
    assert [c["uid"] for c in contents["clusters"]] == [1, -1]


def test_pictures_that_are_gone_leave_a_tile(tmp_path):
    def thumbnail(index, px):
        if index % 3 == 1:
            raise FileNotFoundError(index)
        return None if index % 3 else report_fakes.fake_photo((9, 9, 9), px)

    _, _, contents = written(tmp_path, n=30, n_clusters=1, thumbnail=thumbnail)
    assert len(contents["thumbnails"]) == 10
    assert len(contents["clusters"][0]["typical"]) == 6


def test_the_same_data_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    one, two = (written(tmp_path / name, n=120)[0] for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    assert list(one.parent.iterdir()) == [one]


def test_a_failure_leaves_the_old_report(tmp_path):
    path, _, _ = written(tmp_path)
    before = path.read_bytes()

    def thumbnail(index, px):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        written(tmp_path, thumbnail=thumbnail)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_200_000_images_in_1_000_clusters_stay_under_30_mb(tmp_path):
    pool = [report_fakes.fake_photo(c, 200, i) for i, c in enumerate(report_fakes.COLOURS)]
    asked = []

    def thumbnail(index, px):
        asked.append(px)
        photo = pool[index % len(pool)]
        return photo[: int(len(photo) * (px / 200) ** 2)]

    data = report_fakes.fake_report(
        200_000,
        1_000,
        unreadable=50_000,
        thumbnail=thumbnail,
        paths=[f"a rather long folder name/and another/IMG_{i}.jpg" for i in range(200_000)],
    )
    began = time.monotonic()
    path = write_report(data, tmp_path / "index.html")
    # A bound with room for a busy machine; it takes about 2 s.
    assert time.monotonic() - began < 60
    assert 10_000_000 < path.stat().st_size <= MAX_BYTES < 30_000_000
    contents = json.loads(Page(path.read_text(encoding="utf-8")).texts["contents"])
    assert len(contents["clusters"]) == 1_000
    for cluster in contents["clusters"]:
        assert cluster["medoids"]
        assert cluster["typical"]
        assert cluster["doubtful"]
        assert cluster["listed"] + cluster["more"] == 200
    assert sum(len(p.encode()) for p in contents["paths"]) <= MAX_PATH_BYTES
    assert contents["clusters"][0]["more"] > 0
    assert contents["n_unreadable"] == 50_000 > len(contents["unreadable"])
    image = unpacked(contents["map"]["image"], "<u4")
    assert (image == NO_NUMBER).sum() == 200_000 - len(contents["paths"])
    assert len(asked) < 15_000


def test_huge_pictures_and_huge_names_stay_under_30_mb(tmp_path):
    path, _, contents = written(
        tmp_path,
        n=3_000,
        n_clusters=20,
        thumbnail=lambda index, px: b"x" * 300_000,
        paths=["<" * 4_000 + f"{i}.jpg" for i in range(3_000)],
    )
    assert path.stat().st_size <= MAX_BYTES
    # What little fits is shared out: the first medoid of every cluster comes first.
    assert all(cluster["medoids"] for cluster in contents["clusters"])
