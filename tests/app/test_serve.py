"""The real process: started, used, interrupted, killed."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from app_herds import TOKEN
from typer.testing import CliRunner

from imageherd.cli import app, serve
from imageherd.herd import Herd

BASE = "/api/clusterings/default"


@pytest.fixture
def run():
    """Run the command line in this process; arguments may be paths."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@contextmanager
def serving(herd, *options):
    """Start `imageherd serve`; gives the process and a client that has followed its link."""
    command = [sys.executable, "-m", "imageherd", "serve", str(herd.path), "--no-browser", "--json"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--token", TOKEN, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        link = json.loads(line)["link"]
        with httpx.Client(base_url=link.partition("/?")[0], timeout=60) as client:
            assert client.get(link.partition("#")[0]).status_code == 303
            yield process, client
    finally:
        process.kill()
        process.communicate()


def test_a_person_looks_another_edits_and_ctrl_c_ends_it(herd):
    with serving(herd, "--author", "Ann") as (process, client):
        assert client.get(BASE).json()["state"] == "v0001.0"
        uid = herd.clustering().clusters[0].uid
        with client.stream("GET", f"{BASE}/events") as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            lines = (line for line in events.iter_lines() if line.startswith("data"))
            assert next(lines) == 'data: {"state": "v0001.0"}'
            # In another process than the server's.
            herd.edit(author="Bob").rename(uid, "red")
            assert next(lines) == 'data: {"state": "v0001.1"}'
            client.post(f"{BASE}/undo")
            assert next(lines) == 'data: {"state": "v0001.2"}'
            # Though someone still listens.
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < 30
        assert process.returncode == 0
        assert "Traceback" not in out + err
        assert "kept in" in err
    log = herd.edit().log()
    assert [(edit.kind, edit.author) for edit in log] == [("rename", "Bob"), ("undo", "Ann")]


def edit_at_random(client, numbers, acknowledged):
    """Edit until the server is gone; keeps the key and the number of what was answered."""
    try:
        for i in range(200):
            uids = [c["uid"] for c in client.get(BASE).json()["clusters"]]
            rows = numbers.sample(range(24), 3)
            change = numbers.choice(
                [
                    ("edits", {"kind": "move", "rows": rows, "to": numbers.choice([*uids, None])}),
                    ("edits", {"kind": "outlier", "rows": rows}),
                    ("edits", {"kind": "rename", "uid": uids[0], "name": f"name {i}"}),
                    ("edits", {"kind": "merge", "uids": uids[-2:]}),
                    ("undo", None),
                    ("redo", None),
                ]
            )
            key = f"{numbers.random()}"
            answer = client.post(
                f"{BASE}/{change[0]}", json=change[1], headers={"Idempotency-Key": key}
            )
            assert answer.status_code in (201, 400, 404), answer.text
            if answer.status_code == 201:
                acknowledged.append((key, answer.json()["edit"]["seq"]))
    except httpx.TransportError:
        pass


def test_killed_while_it_is_edited_it_keeps_every_edit_that_was_answered(herd):
    acknowledged = []
    with serving(herd) as (process, client):
        editing = threading.Thread(
            target=edit_at_random, args=(client, random.Random(0), acknowledged), daemon=True
        )
        editing.start()
        end = time.monotonic() + 120
        while len(acknowledged) < 60 and time.monotonic() < end:
            time.sleep(0.001)
        process.kill()
        editing.join(60)
        assert not editing.is_alive()
    edits = Herd(herd.path).edit()
    log = {edit.id: edit for edit in edits.log()}
    assert len(acknowledged) >= 60
    assert [log[key].seq for key, _ in acknowledged] == [seq for _, seq in acknowledged]
    # At most the one edit in hand was made and not answered.
    assert len(log) - len(acknowledged) <= 1
    # What all of them lead to can be said, and edited further.
    assert edits.clustering().rows.tolist() == list(range(24))
    edits.outlier([0])


def test_a_port_that_is_taken_is_said_and_left_out_another_is_found(herd, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", herd.path, "--no-browser", "--port", port)
    assert result.exit_code == 2
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--name", "none"), "no clustering 'none'; it has coarse, default"),
        (("--token", "short"), "8 to 200"),
        (("--host", "no.such.host.invalid"), "cannot be listened at"),
        (("--host", "a" * 70), "cannot be listened at"),
    ],
)
def test_what_cannot_be_served_is_said(herd, run, options, said):
    result = run("serve", herd.path, "--no-browser", "--port", 0, *options)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_a_herd_without_a_clustering_is_sent_to_cluster(herd, run, tmp_path):
    shutil.rmtree(herd.path / "clusterings")
    result = run("serve", herd.path, "--no-browser")
    assert (result.exit_code, "imageherd cluster" in result.stderr) == (2, True)
    assert run("serve", tmp_path, "--no-browser").exit_code == 2


def test_without_the_extra_it_says_what_to_install(herd, run, monkeypatch):
    monkeypatch.setattr(serve, "EXTRA", ("uvicorn", "no_such_package"))
    result = run("serve", herd.path, "--no-browser")
    assert result.exit_code == 2
    assert 'no_such_package; install with: pip install "imageherd[app]"' in result.stderr


@pytest.mark.parametrize(
    ("options", "display", "opened"),
    [((), ":0", True), ((), "", False), (("--no-browser",), ":0", False)],
)
def test_the_link_opens_in_a_browser_where_there_is_one(
    herd, run, monkeypatch, options, display, opened
):
    links, asked = [], {}

    def serve_nothing(herd, token, *, ready, **how):
        asked.update(how)
        ready("http://127.0.0.1:8420")
        raise KeyboardInterrupt

    def open_link(link):
        links.append(link)
        shown.set()

    shown = threading.Event()
    monkeypatch.setattr("imageherd.app.server.serve", serve_nothing)
    monkeypatch.setattr(serve.webbrowser, "open", open_link)
    monkeypatch.setattr(serve.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = run("serve", herd.path, "--name", "coarse", "--token", TOKEN, *options)
    link = f"http://127.0.0.1:8420/?token={TOKEN}#/c/coarse"
    assert result.exit_code == 0
    assert link in result.stdout.splitlines()
    assert "Stopped." in result.stdout
    assert shown.wait(5 if opened else 0) == opened
    assert links == [link] * opened
    assert asked["author"]
