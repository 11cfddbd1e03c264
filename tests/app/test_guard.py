"""Who may ask, and what is refused."""

import pytest
from app_herds import TOKEN
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from imageherd.app import guard
from imageherd.app.guard import Guard
from imageherd.app.server import create_app
from imageherd.errors import ImageherdError


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def asking(hosts=guard.LOCAL, **headers) -> TestClient:
    """Asks a guarded application that answers with the size of the body."""
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])
    app.add_middleware(Guard, token=TOKEN, hosts=hosts)
    base = "http://127.0.0.1:8420"
    return TestClient(app, base_url=base, headers=headers, follow_redirects=False)


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def cookie() -> str:
    answer = asking().get(f"/?token={TOKEN}")
    return answer.headers["set-cookie"]


def test_the_link_gives_a_cookie_for_this_site_alone_and_loses_the_token():
    answer = asking().get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    name, *facts = answer.headers["set-cookie"].split("; ")
    assert {fact.lower() for fact in facts} >= {"httponly", "samesite=lax", "path=/"}
    client = asking(Cookie=name)
    assert client.get("/api/herd").status_code == 200
    assert client.get("/").status_code == 200


def test_two_servers_do_not_take_each_others_cookies():
    other = Guard(Starlette(), "another-token")
    assert other.cookie != Guard(Starlette(), TOKEN).cookie


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": "imageherd-000000000000=x; a=b"},
        {"Cookie": 'a="unbalanced; [=x'},
        {"Cookie": f"other={TOKEN}"},
    ],
)
def test_without_the_token_there_is_nothing(headers):
    for path in ("/", "/api/herd", "/page/app.js", "/api/openapi.json", "/?token=wrong"):
        answer = asking(**headers).get(path)
        assert answer.status_code == 401
        assert "link" in answer.text
        kind = "text/plain" if path.partition("?")[0] == "/" else "application/json"
        assert answer.headers["content-type"].startswith(kind)
        assert "set-cookie" not in answer.headers


def test_a_token_that_is_no_ascii_is_wrong_and_no_error():
    answer = asking().get("/", params={"token": "é\ud7ff😀"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "", "[::1", "127.0.0.1@evil.example", "10.0.0.9"],
)
def test_a_name_that_is_not_its_own_is_refused_whatever_the_token(host):
    answer = asking(**BEARER, Host=host).get("/api/herd")
    assert answer.status_code == 400
    assert "name" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "LOCALHOST", "[::1]:8420"])
def test_this_machine_has_several_names(host):
    assert asking(**BEARER, Host=host).get("/api/herd").status_code == 200


def test_listening_everywhere_any_address_in_digits_will_do_but_no_other_name():
    hosts = {*guard.LOCAL, "0.0.0.0", "my-machine"}
    status = {
        host: asking(hosts, **BEARER, Host=host).get("/api/herd").status_code
        for host in ("192.168.1.20:8420", "[fe80::1]:8420", "My-Machine:8420", "evil.example")
    }
    assert list(status.values()) == [200, 200, 200, 400]


def test_another_site_cannot_change_anything_with_the_cookie():
    mine = {"Cookie": cookie().split("; ")[0]}
    for headers, status in (
        ({}, 200),
        ({"Origin": "http://127.0.0.1:8420", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ):
        assert asking(**mine, **headers).post("/api/undo").status_code == status, headers


def test_there_is_no_way_in_from_other_origins_and_every_answer_says_how_to_treat_it():
    for client, path in ((asking(**BEARER), "/api/herd"), (asking(), "/")):
        answer = client.get(path, headers={"Origin": "http://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_a_body_too_large_is_refused_announced_or_not(monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY", 1000)
    client = asking(**BEARER)
    assert client.post("/", content=b"x" * 1000).text == "1000"
    assert client.post("/", content=b"x" * 1001).status_code == 413
    assert client.post("/", content=iter([b"x" * 600] * 2)).status_code == 413
    assert client.post("/", headers={"Content-Length": "-1"}, content=b"").status_code == 400


@pytest.mark.parametrize(
    "token", ["", "short", "with space in it", "a;b=cdefgh", "é" * 9, "x" * 201]
)
def test_a_token_that_a_link_cannot_hold_is_refused(token, tmp_path):
    with pytest.raises(ImageherdError, match="8 to 200"):
        create_app(tmp_path, token)


def test_errors_are_sentences(client):
    for path in ("/api/nothing", "/api/clusterings/none", "/api/clusterings/..%2f..%2fherd.json"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith(".")
    assert client.delete("/api/herd").status_code == 405


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/secret/place"), "No space left on device."),
        (TypeError("/secret/place"), "This is a bug in imageherd (TypeError)"),
        (ImageherdError("{herd}/clusterings is damaged."), "photos.herd/clusterings is damaged."),
    ],
)
def test_an_error_tells_neither_paths_nor_code(herd, monkeypatch, error, said):
    app = create_app(herd.path, TOKEN)

    def fail(name):
        if isinstance(error, ImageherdError):
            raise ImageherdError(str(error).replace("{herd}", str(herd.path)))
        raise error

    monkeypatch.setattr(app.state.opened, "view", fail)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    answer = client.get("/api/clusterings/default", headers=BEARER)
    assert answer.status_code == (400 if isinstance(error, ImageherdError) else 500)
    assert said in answer.json()["detail"]
    assert "/secret" not in answer.text
    assert str(herd.path.parent) not in answer.text


def test_the_page_is_served_and_nothing_beside_it(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    script = client.get("/page/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    for path in ("/page/../server.py", "/page/%2e%2e/server.py", "/..%2fserver.py", "/page//etc"):
        assert client.get(path).status_code == 404
