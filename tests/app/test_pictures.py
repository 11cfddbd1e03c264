"""Thumbnails and whole images: right side up, made once, and never anything but the herd's own."""

import hashlib
import io
import json
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, features

from edited_herds import made
from imageherd.app import thumbnails
from imageherd.app.thumbnails import SIZES, thumbnail, whole
from imageherd.cores import usable_cores
from imageherd.features.items import Items
from imageherd.herd import Herd
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import FolderSource
from imageherd.images.source import open_source

UP = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE}


def picture(width=300, height=200):
    """Red above, blue below, with a green corner at the top left."""
    image = Image.new("RGB", (width, height), (200, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height // 2, width, height), fill=(0, 0, 200))
    draw.rectangle((0, 0, width // 4, height // 4), fill=(0, 200, 0))
    return image


def is_upright(image):
    small = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BOX)).astype(int)
    return [int(small[y, x].argmax()) for y, x in ((0, 0), (0, 7), (7, 0), (7, 7))] == [1, 0, 2, 2]


def encoded(image, kind, **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def item_of(source, key, **more):
    digest = hashlib.sha256(source.read(key)).hexdigest()
    known = {"key": key, "path": "x", "content_hash": digest, "status": "ok", "reason": ""}
    return known | {"width": 300, "height": 200} | more


class Memory:
    """A source of one image that counts how often it is read."""

    def __init__(self, data):
        self.data, self.n_read, self._lock = data, 0, threading.Lock()

    def read(self, key):
        with self._lock:
            self.n_read += 1
        return self.data


def alone(data, **more):
    source = Memory(data)
    item = item_of(source, b"x", **more)
    source.n_read = 0
    return item, source


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("orientation", [1, *UP])
def test_a_thumbnail_is_upright_and_of_its_size(tmp_path, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(1200, 800)
    stored = stored.transpose(UP[orientation]) if orientation in UP else stored
    found = opened(thumbnail(tmp_path, *alone(encoded(stored, "JPEG", exif=exif)), size))
    assert (found.format, found.mode, found.size) == ("JPEG", "RGB", (size, round(size / 1.5)))
    assert is_upright(found)
    assert found.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((50, 40), (50, 40)),
        ((800, 400), (256, 128)),
        ((400, 800), (128, 256)),
        ((5000, 100), (450, 100)),
        ((1, 1), (1, 1)),
        ((3000, 2), (9, 2)),
    ],
)
def test_what_is_long_stays_sharp_and_nothing_grows(tmp_path, size, expected):
    data = encoded(picture(*size), "PNG")
    assert opened(thumbnail(tmp_path, *alone(data), 192)).size == expected


def test_a_thumbnail_is_made_once(tmp_path):
    item, source = alone(encoded(picture(), "JPEG"))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: thumbnail(tmp_path, item, source, 96), range(32)))
    assert len(set(found)) == 1
    assert source.n_read == 1
    files = [path for path in (tmp_path / "thumbnails").rglob("*") if path.is_file()]
    assert [path.name for path in files] == [f"{item['content_hash']}.jpg"]
    assert thumbnail(tmp_path, item, None, 96) == found[0]


def test_no_more_than_allowed_are_decoded_at_once(tmp_path, monkeypatch):
    now, most = [0], [0]
    real, lock = thumbnails.decode, threading.Lock()

    def counted(data, **how):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return real(data, **how)

    monkeypatch.setattr(thumbnails, "decode", counted)
    ones = [alone(encoded(picture(60 + i, 40), "JPEG")) for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: thumbnail(tmp_path, *one, 96), ones))
    assert most[0] <= min(4, usable_cores() + 1)
    most[0] = 0
    large = [(item | {"width": 9000, "height": 9000}, source) for item, source in ones]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: thumbnail(tmp_path, *one, 192), large))
    assert most[0] == 1


def test_images_that_are_waited_for_hold_up_no_others(tmp_path):
    """Four at a distance do not answer, and a near one is shown all the same."""
    answer = threading.Event()

    class Far(Memory):
        def read(self, key):
            assert answer.wait(20)
            return self.data

    data = [encoded(picture(50 + i, 40), "JPEG") for i in range(5)]
    far = [(alone(each)[0], Far(each)) for each in data[1:]]
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(thumbnail, tmp_path, *one, 96) for one in far]
        assert pool.submit(thumbnail, tmp_path, *alone(data[0]), 96).result(10)
        assert pool.submit(whole, *alone(CONVERTED["tiff"]())).result(10)
        answer.set()
        assert all(one.result(10) for one in waiting)


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8 cut off", b"not a picture"])
def test_a_damaged_thumbnail_is_made_again(tmp_path, damage):
    item, source = alone(encoded(picture(), "JPEG"))
    good = thumbnail(tmp_path, item, source, 96)
    (kept,) = (path for path in tmp_path.rglob("*.jpg"))
    kept.write_bytes(damage)
    assert thumbnail(tmp_path, item, source, 96) == good == kept.read_bytes()


def test_a_herd_that_cannot_be_written_is_served(tmp_path):
    (tmp_path / "thumbnails").write_text("in the way")
    assert is_upright(opened(thumbnail(tmp_path, *alone(encoded(picture(), "JPEG")), 96)))


def sixteen_bits():
    values = np.full((200, 300), 900, np.uint16)
    values[:100] = 4000
    return Image.fromarray(values)


SHOWN = {
    "image/jpeg": lambda: encoded(picture(), "JPEG"),
    "image/png": lambda: encoded(picture().convert("RGBA"), "PNG"),
    "image/webp": lambda: encoded(picture(), "WEBP"),
    "image/gif": lambda: encoded(picture(), "GIF"),
    "image/bmp": lambda: encoded(picture(), "BMP"),
    "image/avif": lambda: encoded(picture(), "AVIF"),
}
CONVERTED = {
    "heic": lambda: encoded(picture(), "HEIF"),
    "tiff": lambda: encoded(picture(), "TIFF"),
    "cmyk": lambda: encoded(picture().convert("CMYK"), "JPEG"),
    "turned webp": lambda: turned(),
}


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture().transpose(UP[6]), "WEBP", exif=exif)


@pytest.mark.parametrize("media", SHOWN)
def test_what_browsers_show_is_sent_as_it_is(media):
    assert media != "image/avif" or features.check("avif")
    data = SHOWN[media]()
    assert whole(*alone(data)) == (data, media)


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_browsers_do_not_show_is_converted(kind):
    data, media = whole(*alone(CONVERTED[kind]()))
    found = opened(data)
    assert (media, found.format, found.mode, found.size) == (
        "image/jpeg",
        "JPEG",
        "RGB",
        (300, 200),
    )
    assert is_upright(found)


def test_deep_grey_is_scaled():
    found = np.asarray(opened(whole(*alone(encoded(sixteen_bits(), "PNG")))[0]).convert("L"))
    assert found[50, 50] > 200
    assert 40 < found[150, 50] < 70


def test_every_kind_of_source_has_pictures(tmp_path):
    data = encoded(picture(), "PNG")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ü 1.png").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/side.png", data)
    pq.write_table(pa.table({"image": pa.array([data], pa.binary())}), tmp_path / "t.parquet")
    (tmp_path / "list.csv").write_text("path\nfolder/ü 1.png\n", encoding="utf-8")
    np.save(tmp_path / "array.npy", np.asarray(picture())[None])
    for name in ("folder", "a.zip", "t.parquet", "list.csv", "array.npy"):
        source = open_source(tmp_path / name)
        (entry,) = source.scan()
        item = item_of(source, entry.key)
        assert is_upright(opened(thumbnail(tmp_path / name[0], item, source, 96))), name
        assert is_upright(opened(whole(item, source)[0])), name


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"content_hash": None}, "not been read yet"),
        ({"content_hash": "../../../../secret"}, "not been read yet"),
        ({"content_hash": "0" * 64}, "has changed"),
        ({"status": "unreadable", "reason": "truncated"}, "truncated"),
    ],
)
def test_what_is_not_as_it_was_embedded_is_refused(tmp_path, more, reason):
    item, source = alone(encoded(picture(), "JPEG"))
    for ask in (lambda i: thumbnail(tmp_path, i, source, 96), lambda i: whole(i, source)):
        with pytest.raises(UnreadableImageError, match=reason):
            ask(item | more)


# ---- over HTTP


@pytest.fixture
def moved(template, tmp_path) -> Herd:
    """The herd with photographs of its own, which a test may change."""
    herd = shutil.copytree(template, tmp_path / "photos.herd")
    photos = shutil.copytree(template.parent / "photos", tmp_path / "photos")
    project = json.loads((herd / "herd.json").read_text())
    project["sources"] = [f"folder:{photos}"]
    (herd / "herd.json").write_text(json.dumps(project))
    return Herd(herd)


def test_pictures_are_kept_by_browsers(client, herd, template):
    answer = client.get("/api/pictures/3", params={"size": 96, "v": "x"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert opened(answer.content).size == (64, 48)
    again = client.get("/api/pictures/3", params={"size": 96})
    assert again.headers["cache-control"] == "private, no-cache"
    tag = again.headers["etag"]
    assert tag == answer.headers["etag"]
    unchanged = client.get("/api/pictures/3", params={"size": 96}, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    other = client.get("/api/pictures/3", params={"size": 192}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    file = template.parent / "photos" / herd.items()["path"][3].as_py()
    full = client.get("/api/pictures/3/full")
    assert (full.headers["content-type"], full.content) == ("image/jpeg", file.read_bytes())


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/pictures/24", 404, "no row 24"),
        ("/api/pictures/99999999999999999999", 422, "row"),
        ("/api/pictures/-1", 422, "row"),
        ("/api/pictures/x", 422, "row"),
        ("/api/pictures/3?size=100", 422, "size=100 is none of 96, 192, 384, 768"),
        ("/api/pictures/..%2f..%2fetc%2fpasswd", 404, "nothing at"),
        ("/api/pictures/3/full/../../../../etc/passwd", 404, ""),
        ("/api/pictures/3%00", 422, "row"),
    ],
)
def test_what_is_no_picture_is_said(client, path, status, said):
    answer = client.get(path)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_gone_changed_and_exchanged_images_are_not_served(moved, client_of, tmp_path):
    client = client_of(moved)
    paths = moved.items()["path"].to_pylist()
    where = [tmp_path / "photos" / path for path in paths]
    before = client.get("/api/pictures/0?size=96").content
    secret = tmp_path / "secret.jpg"
    Image.new("RGB", (10, 10), "white").save(secret)
    where[0].unlink()
    where[1].unlink()
    where[2].write_bytes(where[3].read_bytes())
    where[4].unlink()
    where[4].symlink_to(secret)
    for row, reason in ((1, "no such file"), (2, "has changed"), (4, "has changed")):
        for ask in (f"/api/pictures/{row}?size=96&v=x", f"/api/pictures/{row}/full?v=x"):
            answer = client.get(ask)
            assert answer.status_code == 410
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json()["detail"].startswith(f"{paths[row]} cannot be shown: ")
            assert reason in answer.json()["detail"]
    # Its thumbnail was made while it was there.
    assert client.get("/api/pictures/0?size=96").content == before
    assert client.get("/api/pictures/0/full").status_code == 410
    where[1].write_bytes(secret.read_bytes())
    assert client.get("/api/pictures/1").status_code == 410


def test_an_unreadable_image_says_why(moved, client_of, tmp_path):
    items = Items(moved.path / "items")
    items.change(5, status="unreadable", reason="truncated")
    items.save()
    answer = client_of(moved).get("/api/pictures/5")
    assert answer.status_code == 410
    assert answer.json()["detail"].endswith("cannot be shown: truncated.")


def test_vectors_and_texts_have_no_pictures(tmp_path, client_of):
    herd = made(tmp_path)
    (tmp_path / "notes.txt").write_text("a red shoe\na blue hat\na red hat\n")
    herd.embed(tmp_path / "notes.txt")
    client = client_of(herd)
    for row, what in ((0, "vector"), (len(herd.items()) - 1, "text")):
        answer = client.get(f"/api/pictures/{row}")
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith(f"is a {what}: it has no picture.")


def test_a_moved_source_is_found_without_a_restart(moved, client_of, tmp_path):
    client = client_of(moved)
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    assert client.get("/api/pictures/7").status_code == 410
    Herd(moved.path).embed(tmp_path / "elsewhere", moved_from=tmp_path / "photos")
    assert client.get("/api/pictures/7").status_code == 200


def test_the_source_of_a_folder_reads_only_in_it(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(encoded(picture(), "JPEG"))
    (tmp_path / "outside.jpg").write_bytes(encoded(picture(90, 60), "JPEG"))
    source = FolderSource(tmp_path / "photos")
    item = item_of(source, b"a.jpg") | {"key": b"../outside.jpg"}
    with pytest.raises(UnreadableImageError, match="has changed"):
        whole(item, source)
