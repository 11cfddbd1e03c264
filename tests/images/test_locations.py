"""Images at URLs: what is read, what cannot be, and what is tried again."""

import http.server
import threading
import time
import urllib.parse

import fsspec
import pytest
from fsspec.registry import known_implementations

from feature_fakes import World, picture
from imageherd.errors import ImageherdError
from imageherd.images import locations
from imageherd.images.decode import UnreadableImageError
from imageherd.images.locations import fetch, scheme_of
from imageherd.images.source import open_source


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urllib.parse.unquote(self.path)
        self.server.asked.append(path)
        if path == "/slow.png":
            time.sleep(0.6)
            return
        if path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
            return
        data = self.server.files.get(path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        # More is promised than comes: the connection breaks.
        self.send_header("Content-Length", str(len(data) + 50 * (path == "/cut.png")))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(locations, "TIMEOUT", 0.3)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        server.files = {"/a.png": picture(0), "/ä b.png?x=1&y=2": picture(1), "/cut.png": b"1234"}
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.pipe("/pictures/a.png", picture(3))
    yield files
    files.rm("/pictures", recursive=True)


def test_what_is_a_url():
    assert scheme_of("S3://bucket/a.png") == "s3"
    for path in ("a.png", "C:\\a.png", "C:/a.png", "a:b//c", "/a//b", "a b://c"):
        assert scheme_of(path) == ""


def test_what_a_server_gives(server, tmp_path):
    assert fetch(f"{server.url}/a.png", tmp_path) == picture(0)
    assert fetch(f"{server.url}/moved.png", tmp_path) == picture(0)
    assert fetch(f"{server.url}/ä b.png?x=1&y=2", tmp_path) == picture(1)
    assert fetch(f"{server.url}/%C3%A4%20b.png?x=1&y=2", tmp_path) == picture(1)


def test_what_a_server_does_not_give(server, tmp_path, monkeypatch):
    for name, reason in {
        "gone.png": "HTTP 404 Not Found",
        "slow.png": r"no answer within 0\.3 s",
        "cut.png": "the connection broke off",
    }.items():
        with pytest.raises(UnreadableImageError, match=reason):
            fetch(f"{server.url}/{name}", tmp_path)
    monkeypatch.setattr(locations, "MAX_FILE_BYTES", len(picture(0)) - 1)
    with pytest.raises(UnreadableImageError, match="larger than 0 MiB"):
        fetch(f"{server.url}/a.png", tmp_path)
    for url in ("http://127.0.0.1:1/a.png", "http://", "http://[/a.png"):
        with pytest.raises(UnreadableImageError, match="cannot be fetched"):
            fetch(url, tmp_path)


def test_other_file_systems(memory, tmp_path):
    (tmp_path / "b.png").write_bytes(picture(4))
    assert fetch("memory://pictures/a.png", tmp_path) == picture(3)
    assert fetch((tmp_path / "b.png").as_uri(), tmp_path) == picture(4)
    with pytest.raises(UnreadableImageError, match="no such file"):
        fetch("memory://pictures/b.png", tmp_path)


def test_whatever_a_file_system_raises_is_a_reason(memory, tmp_path, monkeypatch):
    for error, reason in (
        (RuntimeError("no\ncredentials"), r"cannot be fetched \(no credentials\)"),
        (PermissionError(), "no permission to read"),
    ):
        monkeypatch.setattr(type(memory), "_open", lambda *args, e=error, **kw: _raise(e))
        with pytest.raises(UnreadableImageError, match=reason):
            fetch("memory://pictures/a.png", tmp_path)


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("missing://a.png", "names images at missing://, .*: Install nosuchfs to read these"),
        ("nonsense://a.png", "names images at nonsense://, which fsspec does not know"),
    ],
)
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, url, message):
    about = {"class": "nosuchfs.FileSystem", "err": "Install nosuchfs to read these"}
    monkeypatch.setitem(known_implementations, "missing", about)
    (tmp_path / "list.csv").write_text(f"url\n{url}\n")
    with pytest.raises(ImageherdError, match=message):
        open_source(tmp_path / "list.csv").scan()


def test_what_could_not_be_had_is_tried_again_and_what_could_is_not(server, memory, tmp_path):
    urls = [f"{server.url}/{name}" for name in ("a.png", "later.png", "slow.png")]
    urls.append("memory://pictures/a.png")
    (tmp_path / "list.csv").write_text("\n".join(["url,label", *(f"{url},x" for url in urls)]))
    source = open_source(tmp_path / "list.csv")
    assert source.shown(urls[0].encode()) == urls[0]
    assert source.path(urls[0].encode()) is None
    world = World(tmp_path / "world", source)
    summary = world.embed()
    assert summary.n_embedded == 2
    assert dict(summary.reasons) == {
        urls[1]: "HTTP 404 Not Found",
        urls[2]: "no answer within 0.3 s",
    }
    server.files["/later.png"] = picture(5)
    server.asked.clear()
    summary = world.embed()
    assert (summary.n_embedded, summary.n_unreadable) == (1, 1)
    assert sorted(server.asked) == ["/later.png", "/slow.png"]
