"""Arrays in files: who gets one, what is left of it, and what a fit takes of memory beside it."""

import errno
import mmap
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch

from imageherd import memory
from imageherd.device import on_device
from imageherd.errors import ImageherdError
from imageherd.memory import empty_array

# Peak of the memory that is a process's own: pages of mapped files are not.
FIT = """
import sys, threading
from pathlib import Path
import numpy as np
import imageherd.memory
from imageherd.clustering import describe, probabilities_of
from imageherd.heads.tsp import TSP
from imageherd.neighbors import NeighborGraph

def own():
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * 4096

def look():
    while not done.wait(0.005):
        seen.append(own())

if sys.argv[2] == "file":
    imageherd.memory.MOST_IN_MEMORY = 0

def fit(n):
    X = np.load(sys.argv[1], mmap_mode="r").view(np.ndarray)[:n]
    ids = ((np.arange(n)[:, None] + np.arange(1, 6)) % n).astype(np.int32)
    head = TSP(4, init="random", n_neighbors=5, epochs=1, min_steps=0, device="cpu")
    head.fit(X, neighbors=NeighborGraph(ids, np.ones(ids.shape, np.float32)))
    describe(np.arange(n), X, probabilities_of(head, X), name="x", config={})

def peak(n):
    global seen, done
    seen, done = [own()], threading.Event()
    watcher = threading.Thread(target=look)
    watcher.start()
    fit(n)
    done.set()
    watcher.join()
    return max(seen) - seen[0]

few, many = int(sys.argv[3]), int(sys.argv[4])
fit(few)
print(peak(many) - peak(few))
"""


def test_up_to_a_gigabyte_it_is_in_memory(monkeypatch, tmp_path):
    assert memory.MOST_IN_MEMORY == 2**30
    monkeypatch.setattr(memory, "MOST_IN_MEMORY", 4 * 6)
    small, large = empty_array((2, 3), tmp_path), empty_array((7, 1), tmp_path)
    assert small.base is None
    assert isinstance(large.base.base, mmap.mmap) or isinstance(large.base, mmap.mmap)
    assert (small.dtype, large.dtype) == (np.float32, np.float32)
    assert large.flags.writeable
    large[:] = 5
    assert large.sum() == 35
    assert list(tmp_path.iterdir()) == []
    assert empty_array((0, 3)).shape == (0, 3)


def test_where_we_may_not_write_the_system_has_a_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MOST_IN_MEMORY", 0)
    asked = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: asked.append(dir) or make(dir=dir))
    empty_array((2, 2), tmp_path)
    empty_array((2, 2), tmp_path / "none")
    empty_array((2, 2))
    assert asked == [tmp_path, tempfile.gettempdir(), tempfile.gettempdir()]


def test_no_room_is_told_at_once(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(memory, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ImageherdError, match=r"temporary file of 4\.0 GB .*--train-on"):
        empty_array((10**6, 1000), tmp_path)


def test_what_a_gpu_has_no_room_for_is_told_before(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 2_000))
    with pytest.raises(ImageherdError, match=r"of the GPU are free; fit a sample \(--train-on\)"):
        on_device(torch.zeros(201), torch.device("cuda"))
    assert on_device(torch.zeros(201), torch.device("cpu")).shape == (201,)


def test_of_a_fit_on_features_in_a_file_memory_does_not_follow_the_rows(tmp_path):
    few, many, d = 16_000, 80_000, 512
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (many, d))
    X[:] = (
        np.random.default_rng(0).standard_normal((many // 8, d), dtype=np.float32).repeat(8, axis=0)
    )
    X.flush()
    # What is freed goes back to the system at once, so that what is counted is in use.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}

    def copies(where):
        command = [sys.executable, "-W", "ignore", "-c", FIT, tmp_path / "X.npy", where]
        command += [str(few), str(many)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=tmp_path, env=env)
        return int(done.stdout) / (4 * d * (many - few))

    in_file, in_memory = copies("file"), copies("memory")
    # Labels, neighbours and the like are a few numbers a row.
    assert in_file < 0.2
    assert in_memory > in_file + 0.3
