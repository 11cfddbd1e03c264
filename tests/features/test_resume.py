"""Kill a run anywhere: the next one ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_fakes import FakeBackbone, FakeSource, World, killed_at, picture
from imageherd.images.folder import FolderSource


def mixed_source():
    source = FakeSource()
    for number in range(13):
        source.put(f"{number:02d}.png", picture(number))
    source.put("03.png", b"not a picture")
    source.put("08.png", picture(2))
    source.put("11.png", "permission denied")
    return source


def second_act(source):
    """Everything that can happen to files between two runs."""
    source.put("00.png", picture(100), mtime=2)  # changed
    source.put("01.png", picture(1), mtime=2)  # touched
    source.put("moved.png", source.files.pop(b"04.png")[0], mtime=1)
    source.files.pop(b"05.png")
    source.put("03.png", picture(103), mtime=2)  # unreadable, now good
    source.put("11.png", picture(111), mtime=2)  # permission given
    source.put("aa.png", picture(200))
    source.put("ab.png", picture(100))  # the same as a changed file


def third_act(source):
    source.put("00.png", picture(0), mtime=3)  # back to its first content
    source.put("05.png", picture(5), mtime=3)  # come back
    source.put("02.png", b"", mtime=3)  # destroyed; its copy stays


ACTS = [lambda source: None, second_act, third_act]


def test_a_kill_at_every_disk_operation_of_every_act_ends_with_the_same_bytes(tmp_path):
    backbone = FakeBackbone(mixing=True)
    for act in range(len(ACTS)):
        calm = play(World(tmp_path / f"{act}", mixed_source()), act, backbone, kill=None)
        expected = calm.snapshot()
        assert not [name for name in expected if name.endswith((".tmp", ".next"))]
        assert calm.n_operations > 10
        for n in range(calm.n_operations):
            world = World(tmp_path / f"{act}-{n}", mixed_source())
            play(world, act, backbone, kill=n)
            assert world.snapshot() != expected or n >= calm.n_operations - 2
            world.embed(backbone)
            assert world.snapshot() == expected, (act, n)


def play(world, last_act, backbone, kill):
    for act in range(last_act + 1):
        ACTS[act](world.source)
        with killed_at(kill if act == last_act else None) as counter:
            world.embed(backbone)
    world.n_operations = counter.n
    return world


def test_what_a_kill_left_is_removed_even_if_its_reason_has_gone(tmp_path):
    """A file can be opened, its shard is being rewritten, the kill, and it cannot any more."""
    for n in range(100):
        source = mixed_source()
        world = World(tmp_path / f"{n}", source)
        world.embed()
        source.files[b"11.png"] = (picture(11), 1)
        with killed_at(n) as counter:
            world.embed()
        source.files[b"11.png"] = ("permission denied", 1)
        world.embed()
        assert not [name for name in world.snapshot() if name.endswith((".tmp", ".next"))]
        if counter.n < n:
            return
    pytest.fail("a run of 100 operations on the disk")


def test_a_second_backbone_killed_anywhere_ends_with_the_same_bytes(tmp_path):
    second = FakeBackbone("second", mixing=True, logits=False)
    calm = World(tmp_path / "calm", mixed_source())
    calm.embed()
    with killed_at(None) as counter:
        calm.embed(second)
    for n in range(counter.n):
        world = World(tmp_path / f"{n}", mixed_source())
        world.embed()
        with killed_at(n):
            world.embed(second)
        world.embed(second)
        assert world.snapshot() == calm.snapshot(), n


names = st.sampled_from([f"{c}.png" for c in "abcdefghij"])
contents = st.one_of(st.integers(0, 6).map(picture), st.just(b"text"), st.just("permission denied"))
events = st.one_of(
    st.tuples(st.just("put"), names, contents),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("touch"), names),
    st.tuples(st.just("move"), names, names),
    st.tuples(st.just("kill"), st.integers(0, 60)),
    st.just(("run",)),
    st.just(("run",)),
    st.just(("run",)),
    st.tuples(st.just("corrupt"), st.integers(0, 3)),
)


def happen(world, event, clock):
    files = world.source.files
    kind, *rest = event
    if kind == "put":
        world.source.put(rest[0], rest[1], clock)
    elif kind == "delete":
        files.pop(os.fsencode(rest[0]), None)
    elif kind == "touch" and os.fsencode(rest[0]) in files:
        world.source.put(rest[0], files[os.fsencode(rest[0])][0], clock)
    elif kind == "move" and os.fsencode(rest[0]) in files:
        files[os.fsencode(rest[1])] = files.pop(os.fsencode(rest[0]))
    elif kind == "corrupt":
        shard = world.set_folder(FakeBackbone()) / f"shard-{rest[0]:05d}.npy"
        shard.unlink(missing_ok=True)


@settings(max_examples=60, deadline=None)
@given(script=st.lists(events, min_size=3, max_size=25), workers=st.integers(1, 3))
def test_whatever_happens_rows_files_and_vectors_agree(tmp_path_factory, script, workers):
    world = World(tmp_path_factory.mktemp("world"))
    for clock, event in enumerate([*script, ("run",)], start=1):
        happen(world, event, clock)
        if event[0] == "kill":
            with killed_at(event[1]):
                world.embed(workers=workers)
        elif event[0] == "run":
            world.embed(workers=workers)
            world.check()
            before = world.snapshot()
            assert world.embed(workers=workers).n_embedded == 0
            assert world.snapshot() == before


@settings(max_examples=30, deadline=None)
@given(
    script=st.lists(events.filter(lambda e: e[0] not in ("kill", "corrupt")), max_size=20),
    kills=st.lists(st.integers(0, 60), max_size=20),
)
def test_kills_leave_no_trace_when_the_files_stay(tmp_path_factory, script, kills):
    backbone = FakeBackbone(mixing=True)
    calm, shaken = (World(tmp_path_factory.mktemp("world")) for _ in range(2))
    kills = list(kills)
    for clock, event in enumerate([*script, ("run",)], start=1):
        for world in (calm, shaken):
            happen(world, event, clock)
        if event[0] == "run":
            while kills and kills[-1] % 3:
                with killed_at(kills.pop()):
                    shaken.embed(backbone)
            kills = kills[:-1]
            calm.embed(backbone)
            shaken.embed(backbone)
            assert calm.snapshot() == shaken.snapshot()


SLOW_RUN = """
import sys, time
from pathlib import Path
from feature_fakes import FakeBackbone, World
from imageherd.images.folder import FolderSource

class Slow(FakeBackbone):
    def embed(self, batch):
        print("batch", flush=True)
        time.sleep(0.02)
        return super().embed(batch)

World(sys.argv[1], FolderSource(sys.argv[2])).embed(Slow(mixing=True))
print("done", flush=True)
"""


def start(world, photos):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", SLOW_RUN, str(world), str(photos)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_real_sigkill(tmp_path, photos):
    World(tmp_path / "calm", FolderSource(photos)).embed(FakeBackbone(mixing=True))
    for seed, n_batches in enumerate((1, 6)):
        process = start(tmp_path / "killed", photos)
        for _ in range(n_batches):
            assert process.stdout.readline() == "batch\n"
        time.sleep(random.Random(seed).uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        process.stdout.close()
    killed = World(tmp_path / "killed", FolderSource(photos))
    n_left = killed.embed(FakeBackbone(mixing=True)).n_embedded
    assert 0 < n_left < 40
    assert killed.snapshot() == World(tmp_path / "calm").snapshot()


@pytest.mark.skipif(os.name != "posix", reason="signals are different there")
def test_ctrl_c_ends_within_a_second_and_leaves_nothing_half_done(tmp_path, photos):
    process = start(tmp_path / "stopped", photos)
    for _ in range(4):
        process.stdout.readline()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert time.monotonic() - started < 1.5
    assert process.returncode in (-signal.SIGINT, 1, 130)
    world = World(tmp_path / "stopped", FolderSource(photos))
    assert not [name for name in world.snapshot() if name.endswith((".tmp", ".next"))]
    calm = World(tmp_path / "calm", FolderSource(photos))
    for each in (world, calm):
        each.embed(FakeBackbone(mixing=True))
    assert world.snapshot() == calm.snapshot()
