"""Search over HTTP: the answers of `Herd.search`, warm, and what is refused."""

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from backbones.tiny_clip import save_clip
from edited_herds import made
from imageherd import search_space
from imageherd.app import finder
from imageherd.app.finding import MOST_BYTES
from imageherd.herd import Herd

BASE = "/api/clusterings/default/search"


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    return [hit["row"] for hit in answer.json()["hits"]]


def send(client, content, **params):
    return client.post(BASE, files={"image": ("x.jpg", content)}, params=params)


def test_more_like_a_row_is_the_search_of_the_herd(client, herd):
    answer = client.get(BASE, params={"row": 5, "limit": 7})
    found, known = answer.json(), herd.search(item=5, n=7)
    assert rows_of(answer) == known.rows.tolist()
    assert [hit["similarity"] for hit in found["hits"]] == pytest.approx(known.similarity.tolist())
    assert answer.headers["etag"] == f'"{found["state"]}"' == '"v0001.0"'
    assert (found["by"], found["recall"]) == ("efficientnet-lite0", None)
    clustering, names = herd.clustering(), herd.clustering().names()
    for hit in found["hits"]:
        uid = int(clustering.uids[np.searchsorted(clustering.rows, hit["row"])])
        assert (hit["uid"], hit["cluster"]) == (uid, names[uid])
    assert len(rows_of(client.get(BASE, params={"row": 5, "limit": 1000}))) == 23


def test_more_like_several_is_like_their_mean(client, herd):
    data = herd.features()
    unit = data.X / np.linalg.norm(data.X, axis=1, keepdims=True)
    order = np.argsort(-unit @ unit[[3, 7, 11]].mean(axis=0), kind="stable")
    expected = [row for row in data.rows[order].tolist() if row not in (3, 7, 11)][:6]
    assert rows_of(client.get(BASE, params={"row": [3, 7, 11, 3], "limit": 6})) == expected


def test_an_image_of_the_herd_finds_itself(client, herd, template):
    path = template.parent / "photos" / herd.items()["path"][8].as_py()
    answer = send(client, path.read_bytes(), limit=4)
    assert rows_of(answer) == herd.search(image=path, n=4).rows.tolist()
    assert rows_of(answer)[0] == 8
    assert answer.json()["hits"][0]["similarity"] == 1


def test_an_image_of_any_kind_is_taken(client, template, herd):
    path = template.parent / "photos" / herd.items()["path"][8].as_py()
    for kind in ("PNG", "TIFF", "HEIF"):
        out = io.BytesIO()
        Image.open(path).save(out, kind)
        assert rows_of(send(client, out.getvalue(), limit=1)) == [8], kind


def test_edits_are_seen(client):
    rows = rows_of(client.get(BASE, params={"row": 5, "limit": 3}))
    client.post("/api/clusterings/default/edits", json={"kind": "outlier", "rows": rows[:1]})
    found = client.get(BASE, params={"row": 5, "limit": 3}).json()
    assert found["state"] == "v0001.1"
    assert (found["hits"][0]["uid"], found["hits"][0]["cluster"]) == (-1, "fits nowhere")


def test_only_images_of_the_clustering_are_found(client, herd, template, tmp_path):
    shutil.copytree(template.parent / "photos" / "left", tmp_path / "more")
    Image.new("RGB", (64, 48), (220, 30, 31)).save(tmp_path / "more" / "new.png")
    Herd(herd.path).embed(tmp_path / "more")
    known = herd.clustering().rows.tolist()
    assert len(Herd(herd.path).features().rows) > len(known) == 24
    assert sorted([*rows_of(client.get(BASE, params={"row": 1, "limit": 100})), 1]) == known


def test_the_backbone_and_the_features_stay_warm(client, herd, template, monkeypatch):
    loaded = []
    for name in ("backbone_of", "open_space"):
        real = getattr(finder, name)

        def counted(*given, _real=real, _name=name, **how):
            loaded.append(_name)
            return _real(*given, **how)

        monkeypatch.setattr(finder, name, counted)
    path = template.parent / "photos" / herd.items()["path"][8].as_py()
    for _ in range(3):
        send(client, path.read_bytes())
        client.get(BASE, params={"row": 5})
    assert sorted(loaded) == ["backbone_of", "open_space"]


def test_an_index_is_used_where_there_is_one_and_never_waited_for(client_of, tmp_path, monkeypatch):
    herd = made(tmp_path, 600)
    monkeypatch.setattr(search_space, "LARGE", 100)
    monkeypatch.setattr(search_space, "_LARGE_NUMBERS", 100)
    asked = {"row": 0, "limit": 20}
    before = client_of(herd).get(BASE, params=asked)
    assert before.json()["recall"] is None
    assert not (herd.path / "search").exists()
    known = herd.search(item=0, n=20)
    after = client_of(herd).get(BASE, params=asked)
    assert after.json()["recall"] == pytest.approx(known.recall)
    assert rows_of(after) == known.rows.tolist()
    more = client_of(herd).get(BASE, params=asked | {"limit": 200}).json()
    assert (more["recall"], len(more["hits"])) == (None, 200)


def test_words_find_images_where_the_features_allow(tmp_path, client_of, template):
    herd = Herd(tmp_path / "clip.herd")
    herd.embed(template.parent / "photos", backbone=str(save_clip(tmp_path / "tiny-clip")))
    herd.cluster("kmeans", 3)
    client = client_of(herd)
    assert client.get("/api/herd").json()["searchable"] == {"image": True, "text": True}
    answer = client.get(BASE, params={"text": "a red hat", "limit": 5})
    assert rows_of(answer) == herd.search(text="a red hat", n=5).rows.tolist()
    assert client.get(BASE, params={"text": "  "}).status_code == 400


def test_words_find_texts(tmp_path, client_of):
    (tmp_path / "notes.txt").write_text("a red shoe\na blue hat\na red hat\na green tree\n" * 3)
    herd = Herd(tmp_path / "notes.herd")
    herd.embed(tmp_path / "notes.txt")
    herd.cluster("kmeans", 2)
    client = client_of(herd)
    answer = client.get(BASE, params={"text": "hat", "limit": 20})
    assert rows_of(answer) == herd.search(text="hat", n=20).rows.tolist()
    assert {hit["text"] for hit in answer.json()["hits"]} == {"a blue hat", "a red hat"}
    refused = send(client, b"\xff\xd8")
    assert refused.status_code == 400
    assert "tf-idf of texts" in refused.json()["detail"]
    unknown = client.get(BASE, params={"text": "xylophone"})
    assert unknown.status_code == 400
    assert "xylophone" in unknown.json()["detail"]


def test_vectors_are_searched_by_row(tmp_path, client_of):
    herd = made(tmp_path)
    client = client_of(herd)
    assert rows_of(client.get(BASE, params={"row": 0, "limit": 11})) == (
        herd.search(item=0, n=11).rows.tolist()
    )
    assert send(client, b"\xff\xd8").status_code == 400


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 422, "Give one thing to search for"),
        ("?row=1&text=hat", 422, "Give one thing to search for"),
        ("?text=hat", 400, "CLIP or SigLIP"),
        ("?row=24", 404, "Row 24 is not in clustering 'default'"),
        ("?row=-1", 404, "Row -1 is not"),
        ("?row=99999999999999999999", 404, "is not in clustering"),
        ("?row=x", 422, "row"),
        ("?row=1&limit=0", 422, "limit"),
        ("?row=1&limit=1001", 422, "limit"),
        ("?text=" + "x" * 1001, 422, "text"),
        ("?" + "&".join(["row=1"] * 201), 422, "row"),
    ],
)
def test_what_cannot_be_searched_is_said(client, query, status, said):
    answer = client.get(BASE + query)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def bomb(side=30_000):
    """A PNG that says it is very large and holds next to nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(3 * side + 1), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 415, "empty file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no image of a known format"),
        (b"\xff\xd8\xff\xe0 cut off", 415, "cannot be read as an image"),
        (bomb(), 415, "too many"),
        (b"\xff\xd8" + bytes(MOST_BYTES), 413, "larger than 32 MB"),
        (bytes(40 << 20), 413, "too large"),
    ],
    ids=["empty", "svg", "cut off", "bomb", "large", "too large"],
)
def test_uploads_that_are_no_images_are_refused(client, content, status, said):
    answer = send(client, content)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_form_without_an_image_is_refused(client):
    answer = client.post(BASE, data={"other": "x"})
    assert answer.status_code == 422
    assert "image: Field required" in answer.json()["detail"]
    assert client.post(BASE, content=b"not a form").status_code == 422
