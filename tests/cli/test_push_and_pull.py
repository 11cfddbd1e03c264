"""A herd through the two verbs, there and back, and what a person is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imageherd.cli.push import in_bytes
from imageherd.herd import Herd


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    X = np.eye(5, dtype=np.float32)[np.arange(30) % 3]
    np.save(folder / "v.npy", X + np.random.default_rng(0).normal(size=X.shape, scale=0.1))
    herd = Herd(folder / "v.herd")
    herd.embed(folder / "v.npy")
    herd.cluster("kmeans", 3)
    return folder


@pytest.fixture
def here(tmp_path, made):
    """A herd of 30 vectors in three clusters: v.herd, in the current folder."""
    shutil.copytree(made / "v.herd", "v.herd")
    return tmp_path


def test_there_and_back(run, here):
    url = f"file://{here}/disk/photos.herd"
    done = run("push", "v.herd", url)
    assert done.exit_code == 0, done.output
    assert f"{url} is at version 1: " in done.stdout
    assert f"imageherd pull {url}" in done.stdout
    assert "Nothing was new." in run("push", "v.herd", url).stdout
    done = run("pull", url)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "photos.herd"
    assert "version 1, pushed by " in done.stdout
    assert run("export", "photos.herd", "a.csv").exit_code == 0
    assert run("export", "v.herd", "b.csv").exit_code == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert "Nothing was new since version 1." in run("pull", url, "photos.herd").stdout


def test_as_json(run, here):
    url = f"file://{here}/disk"
    pushed = json.loads(run("push", "v.herd", url, "--json").stdout)
    assert (pushed["version"], pushed["sent"]["files"]) == (1, pushed["files"])
    pulled = json.loads(run("pull", url, "w.herd", "--json").stdout)
    assert (pulled["herd"], pulled["version"]) == ("w.herd", 1)
    assert (pulled["files"], pulled["bytes"]) == (pushed["files"], pushed["bytes"])
    refused = run("pull", f"{url}/nothing", "x.herd", "--json")
    assert refused.exit_code == 2
    assert "holds no herd" in json.loads(refused.stdout)["error"]


def test_where_images_are_that_stayed_behind(run, here, made):
    url = f"file://{here}/disk"
    run("push", "v.herd", url)
    assert "not on this machine" not in run("pull", url, "u.herd").stdout
    away = (made / "v.npy").rename(made / "elsewhere.npy")
    said = " ".join(run("pull", url, "w.herd").stdout.split())
    away.rename(made / "v.npy")
    assert "v.npy is not on this machine" in said
    assert f"--herd w.herd --moved-from {made / 'v.npy'}" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push", "v.herd", "nas/photos.herd"], "nas/photos.herd is no URL; write s3://"),
        (["push", "nothing.herd", "file:///x"], "nothing.herd"),
        (["push", "v.herd", "what://x"], "Protocol not known"),
        (["push", "v.herd"], "Missing argument 'URL'"),
        (["pull", "file:///"], "has no last part"),
        (["report", "s3://b/p.herd"], "fetch it first: imageherd pull s3://b/p.herd"),
        (["pull", "file:///nowhere/at/all.herd"], "holds no herd"),
    ],
)
def test_what_is_wrong_is_said(run, here, arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not Path("all.herd").exists()


def test_a_pull_that_is_stopped_goes_on(run, here):
    url = f"file://{here}/disk"
    run("push", "v.herd", url)
    script = (
        "import os, signal, sys, threading\n"
        "from imageherd.remote.store import Store\n"
        "get, once = Store.get, threading.Lock()\n"
        "def stopped(self, name, path):\n"
        "    get(self, name, path)\n"
        "    if once.acquire(blocking=False):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "Store.get = stopped\n"
        "from imageherd.cli import main\n"
        "main()\n"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", script, "pull", url, "w.herd"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert stopped.returncode == 128 + signal.SIGINT, stopped.stderr
    assert "Stopped. w.herd is kept; the same command takes it up again" in stopped.stderr
    assert "half pulled" in run("report", "w.herd").stderr
    done = run("pull", url, "w.herd", "--json")
    assert json.loads(done.stdout)["version"] == 1
    shutil.rmtree("v.herd")
    assert run("export", "w.herd", "a.csv").exit_code == 0


@pytest.mark.parametrize(
    ("n", "text"), [(12, "12 bytes"), (7_580_441, "7.6 MB"), (999_000, "999 kB"), (3e13, "30 TB")]
)
def test_bytes_as_one_says_them(n, text):
    assert in_bytes(int(n)) == text
