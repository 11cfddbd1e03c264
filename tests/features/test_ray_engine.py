"""Ray gives what this process gives, whatever dies on the way. One cluster for all tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones.tiny_onnx import mean_colour
from feature_fakes import picture
from imageherd.backbones import Preprocessing, load_backbone
from imageherd.errors import ImageherdError
from imageherd.features import ray_cluster, ray_engine
from imageherd.features.items import Items
from imageherd.features.known import RowOfContent
from imageherd.features.pipeline import embed_source
from imageherd.features.precision import stored_as
from imageherd.features.ray_engine import RayEngine
from imageherd.herd import Herd
from imageherd.images.folder import FolderSource
from imageherd.progress import reporting  # noqa: F401

PART_ROWS = 25
TWO_ACTORS = RayEngine(actors=2)


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_cluster, "_OBJECT_STORE_BYTES", 80 * 2**20)
        patch.setattr(ray_cluster, "usable_cores", lambda: 2)
        with ray_cluster.connected(None) as ray:
            yield ray
            folder = Path(ray._private.worker._global_node.get_session_dir_path()).parent
            started = processes_below(os.getpid(), "ray")
            assert started
    assert not folder.exists()
    assert gone(started)
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """210 files: 200 pictures, copies within a shard and of other shards, and broken ones."""
    folder = tmp_path_factory.mktemp("ray") / "pictures"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:03d}.png").write_bytes(picture(number))
    for number, copy in ((0, "001a"), (3, "120a"), (150, "003a"), (199, "zza"), (150, "zzb")):
        (folder / f"{copy}.png").write_bytes(picture(number))
    for name in ("004x", "044x", "104x", "zzy"):
        (folder / f"{name}.jpg").write_bytes(b"no picture")
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    file = tmp_path_factory.mktemp("net") / "tiny.onnx"
    file.write_bytes(mean_colour())
    beside = Preprocessing(size=8, resize=8).to_dict()
    file.with_suffix(".json").write_text(json.dumps(beside))
    return str(file)


def embed(folder, source, net, engine=None, *, index=0, workers=1, dtype="float32"):
    how = {"engine": engine.of(net, "cpu")} if engine else {}
    items = Items(folder / "items", part_rows=PART_ROWS)
    features = folder / "features"
    backbone = stored_as(load_backbone(net, device="cpu"), dtype)
    return embed_source(items, source, index, backbone, features, workers=workers, **how)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory, pictures, net):
    folder = tmp_path_factory.mktemp("local")
    return SimpleNamespace(folder=folder, summary=embed(folder, FolderSource(pictures), net))


def processes_below(process, name):
    """Processes that this one started, and those these started, of a name."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
                names[int(entry.name)] = command_of(entry.name)
            except OSError:
                continue
    below, before = {process}, 0
    while len(below) > before:
        before = len(below)
        below |= {child for child, parent in parents.items() if parent in below}
    return [p for p in below - {process} if name in names[p]]


def command_of(process):
    return Path("/proc", str(process), "cmdline").read_bytes().decode(errors="replace")


def gone(processes, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path("/proc", str(p)).exists() for p in processes):
            return True
        time.sleep(0.1)
    return False


def test_the_same_bytes_as_this_process_gives(cluster, tmp_path, pictures, net, local):
    summary = embed(tmp_path, FolderSource(pictures), net, TWO_ACTORS)
    assert contents(tmp_path) == contents(local.folder)
    assert vars(summary) | {"seconds": 0} == vars(local.summary) | {"seconds": 0}
    assert (summary.n_embedded, summary.n_copied, summary.n_unreadable) == (200, 5, 5)


@pytest.mark.slow
def test_the_same_bytes_in_float16(cluster, tmp_path, pictures, net):
    source = FolderSource(pictures)
    embed(tmp_path / "local", source, net, dtype="float16")
    embed(tmp_path / "ray", source, net, TWO_ACTORS, dtype="float16")
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
def test_content_that_the_herd_knows_is_copied_not_embedded(
    cluster, tmp_path, pictures, net, local, monkeypatch
):
    new = tmp_path / "new"
    new.mkdir()
    for number in (7, 199, 500, 501, 8):
        (new / f"{number}.png").write_bytes(picture(number))
    seen = tmp_path / "seen"

    class Embedder(ray_engine._Embedder):
        def __call__(self, table):
            result = super().__call__(table)
            with seen.open("a") as file:
                file.write(f"{len(result['embedded'][0])}\n")
            return result

    monkeypatch.setattr(ray_engine, "_Embedder", Embedder)
    for name, engine in (("local", None), ("ray", RayEngine(actors=1))):
        folder = tmp_path / name
        for path, data in contents(local.folder).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        summary = embed(folder, FolderSource(new), net, engine, index=1)
        assert (summary.n_embedded, summary.n_copied) == (2, 3)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert seen.read_text().split() == ["2"]


def test_a_worker_that_dies_or_fails_in_a_shard_loses_and_doubles_nothing(
    cluster, tmp_path, pictures, net, local, monkeypatch, capfd
):
    marks = tmp_path / "marks"
    marks.mkdir()

    class Embedder(ray_engine._Embedder):
        def __call__(self, table):
            shard = table["row"][0][0].as_py() // PART_ROWS
            first = not (marks / str(shard)).exists()
            (marks / str(shard)).touch()
            if first and shard == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if first and shard == 4:
                raise OSError("the network is down")
            result = super().__call__(table)
            if first and shard == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    monkeypatch.setattr(ray_engine, "_Embedder", Embedder)
    summary = embed(tmp_path / "ray", FolderSource(pictures), net, TWO_ACTORS)
    assert len(list(marks.iterdir())) == 9
    assert contents(tmp_path / "ray") == contents(local.folder)
    assert summary.n_embedded == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_shard_at_which_every_worker_dies_ends_the_run_and_keeps_the_rest(
    cluster, tmp_path, pictures, net, local, monkeypatch
):
    class Embedder(ray_engine._Embedder):
        def __call__(self, table):
            if table["row"][0][0].as_py() == 3 * PART_ROWS:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(table)

    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "_Embedder", Embedder)
        patch.setattr(ray_engine, "RETRIES", 1)
        with pytest.raises(ImageherdError, match=r"Worker after worker died .* 2 in all"):
            embed(tmp_path, FolderSource(pictures), net, RayEngine(actors=1))
    assert len(list(tmp_path.glob("features/shard-*.npy"))) <= 3
    embed(tmp_path, FolderSource(pictures), net)
    assert contents(tmp_path) == contents(local.folder)


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_no_process_and_the_next_one_goes_on(
    cluster, tmp_path, pictures, net, local
):
    script = (
        "import os, signal, sys\n"
        "from contextlib import contextmanager\n"
        "from features.test_ray_engine import *\n"
        "@contextmanager\n"
        "def reporter(*about):\n"
        "    done = []\n"
        "    def advance(n):\n"
        "        done.append(n)\n"
        "        if len(done) == 4:\n"
        # But for Ray's two agents, which look for its daemon for a minute before they end.
        "            started = processes_below(os.getpid(), 'ray')\n"
        "            print(*[p for p in started if 'Agent' not in command_of(p)], flush=True)\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    yield advance\n"
        "ray_cluster._OBJECT_STORE_BYTES = 80 * 2**20\n"
        "with reporting(reporter):\n"
        "    embed(Path(sys.argv[1]), FolderSource(Path(sys.argv[2])), sys.argv[3], TWO_ACTORS)\n"
    )
    command = [sys.executable, "-c", script, tmp_path, pictures, net]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        output, errors = run.communicate()
    assert run.returncode == -signal.SIGKILL, errors
    assert len(started := [int(p) for p in output.split()]) > 3
    assert gone(started)
    assert len(list(tmp_path.glob("features/shard-*.npy"))) == 3
    summary = embed(tmp_path, FolderSource(pictures), net, RayEngine(actors=1))
    assert contents(tmp_path) == contents(local.folder)
    # Of the first 75 files one is a copy and two are broken.
    assert summary.n_embedded == 200 - 72
    (left,) = Path("/tmp").glob(f"{ray_cluster.PREFIX}{run.pid}-*")
    with ray_cluster._folder():
        assert not left.exists()


def test_workers_do_not_let_everything_else_on_the_machine_go_first(cluster):
    assert cluster.get(cluster.remote(lambda: os.nice(0)).remote()) == os.nice(0)


def test_a_source_that_the_workers_lack_is_told_with_the_machine(cluster, tmp_path, pictures, net):
    source = FolderSource(pictures)
    source.uri = "folder:/nowhere/photos"
    with pytest.raises(ImageherdError, match=r"^/nowhere/photos is not there on \S+, a machine"):
        embed(tmp_path, source, net, RayEngine(actors=1))


@pytest.mark.slow
def test_workers_with_another_network_or_none_are_told(
    cluster, tmp_path, pictures, net, monkeypatch
):
    source = FolderSource(pictures)
    backbone = load_backbone(net, device="cpu")
    backbone.key = "tiny-000000000000"
    items = Items(tmp_path / "items", part_rows=PART_ROWS)
    engine = RayEngine(actors=1).of(net, "cpu")
    with pytest.raises(ImageherdError, match=r"is another network on .* tiny-000000000000 here"):
        embed_source(items, source, 0, backbone, tmp_path / "features", engine=engine)

    class Embedder(ray_engine._Embedder):
        def __init__(self, *arguments):
            raise ModuleNotFoundError("No module named 'imageherd'")

    monkeypatch.setattr(ray_engine, "_Embedder", Embedder)
    with pytest.raises(ImageherdError, match=r"could not start; .*: No module named 'imageherd'$"):
        embed(tmp_path / "new", source, net, RayEngine(actors=1))


@pytest.mark.slow
def test_assign_places_as_this_process_does(cluster, herd, pictures, tmp_path):
    other = Herd(tmp_path / "other.herd")
    shutil.copytree(herd.path, other.path)
    new = tmp_path / "new"
    shutil.copytree(pictures, new, ignore=lambda folder, names: sorted(names)[6:])
    a = herd.assign(new)
    b = other.assign(new, engine=RayEngine(actors=1), workers=2)
    assert len(a.rows) == 6
    for name in ("rows", "uids", "probability", "similarity"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "expected"),
    [
        ([{"CPU": 2}], "auto", None, (0, 2, 1)),
        ([{"CPU": 2}], "cpu", 1, (0, 1, 2)),
        ([{"CPU": 16}, {"CPU": 10}], "auto", None, (0, 4, 6)),
        ([{"CPU": 16}, {"CPU": 2}], "auto", None, (0, 2, 9)),
        ([{"CPU": 64}, {"CPU": 48, "GPU": 8}, {"CPU": 32, "GPU": 4}], "auto", None, (1, 6, 12)),
        ([{"CPU": 64}, {"CPU": 48, "GPU": 8}], "cuda", 12, (1, 12, 4)),
        ([{"CPU": 8, "GPU": 1}], "cpu", None, (0, 4, 2)),
        ([{}, {"CPU": 8}], "cpu", None, (0, 4, 2)),
    ],
)
def test_as_many_actors_as_the_machines_have_room_for(nodes, device, workers, expected):
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    dead = {"Alive": False, "Resources": {"CPU": 1, "GPU": 1}}
    assert ray_engine._room([*alive, dead], device, workers) == expected


@pytest.mark.parametrize(
    ("device", "workers", "message"),
    [
        ("cuda", None, "No machine of the cluster has a GPU"),
        ("cuda:1", None, "--device cuda:1 does not go with"),
        ("cpu", 9, "--workers 9 asks for as many cores"),
    ],
)
def test_a_cluster_without_room_is_told(device, workers, message):
    nodes = [{"Alive": True, "Resources": {"CPU": 8}}]
    with pytest.raises(ImageherdError, match=message):
        ray_engine._room(nodes, device, workers)


DIGESTS = st.sets(
    st.binary(min_size=32, max_size=32) | st.integers(0, 3).map(lambda i: bytes(31) + bytes([i]))
)


@given(DIGESTS, DIGESTS)
def test_known_digests_are_told_from_others(known, others):
    hashes = pa.chunked_array([[digest.hex() for digest in known]], pa.string())
    rows = RowOfContent(hashes, np.ones(len(known), bool))
    found = ray_engine._Contents(rows.digests())
    for digest in known | others:
        assert (digest.hex() in found) == (digest in known)
        assert (found.setdefault(digest.hex(), 7) == 7) == (digest not in known)


def test_a_shard_out_of_turn_is_refused():
    with pytest.raises(RuntimeError, match="the shard of row 25, not of 0"):
        ray_engine._received({"row": [25], "error": None}, [SimpleNamespace(row=0)], None)


def test_views_vectors_and_texts_need_no_engine(tmp_path, pictures):
    with pytest.raises(ImageherdError, match="Views are made by this process"):
        Herd(tmp_path / "a.herd").embed(pictures, views=2, engine=RayEngine())
    np.save(tmp_path / "x.npy", np.ones((3, 4), np.float32))
    with pytest.raises(ImageherdError, match="need no network"):
        Herd(tmp_path / "b.herd").embed(tmp_path / "x.npy", engine=RayEngine())


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImageherdError, match=r'pip install "imageherd\[ray\]"'):
        ray_cluster.require_ray()
