"""A store that cannot rename, whose writers may be killed, and herds that are the same."""

import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
from fsspec.implementations.memory import MemoryFileSystem

from imageherd.herd import Herd
from imageherd.project import REMOTES
from imageherd.remote.store import Store

URL = "rigid://bucket/photos.herd"


class Killed(BaseException):
    """Stands for SIGKILL."""


class Rigid(MemoryFileSystem):
    """Files that are put, read and listed: not renamed, not removed; a writer may be killed."""

    protocol = "rigid"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False
    left: int | None = None
    lock = threading.Lock()
    before_create = None

    @classmethod
    def _one(cls):
        with cls.lock:
            if cls.left is not None:
                if cls.left == 0:
                    raise Killed
                cls.left -= 1

    def put_file(self, lpath, rpath, **kwargs):
        try:
            self._one()
        except Killed:
            # Half of it is seen, as on a disk.
            data = Path(lpath).read_bytes()
            super().pipe_file(rpath, data[: len(data) // 2])
            raise
        super().pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        assert mode == "create"
        if Rigid.before_create:
            before, Rigid.before_create = Rigid.before_create, None
            before()
        try:
            self._one()
        except Killed:
            super().pipe_file(path, value[: len(value) // 2])
            raise
        if self.exists(path):
            raise OSError(22, "PreconditionFailed")
        super().pipe_file(path, value)

    def get_file(self, rpath, lpath, **kwargs):
        self._one()
        Path(lpath).write_bytes(self.cat_file(rpath))

    def _refused(self, *args, **kwargs):
        raise AssertionError("this store renames and removes nothing")

    mv = move = rename = rm = rm_file = _rm = delete = cp_file = copy = touch = _refused


@contextmanager
def killed_after(n):
    Rigid.left = n
    try:
        yield
    except Killed:
        pass
    finally:
        Rigid.left = None


def mortal(patch, n):
    """Let `n` files be put in place, then die with half of one."""
    left = [n]

    def dying(original):
        def call(source, target):
            if not left[0]:
                data = Path(source).read_bytes()
                Path(target).write_bytes(data[: len(data) // 2])
                raise Killed
            left[0] -= 1
            return original(source, target)

        return call

    for name in ("move", "copyfile"):
        patch.setattr(shutil, name, dying(getattr(shutil, name)))


def assert_same(a, b):
    """The same clusters, names, edits and vectors; the same files but for the journal's."""
    a, b = Herd(a), Herd(b)
    one, other = a.clustering(), b.clustering()
    np.testing.assert_array_equal(one.uids, other.uids)
    assert one.names() == other.names()
    assert a.edit().log() == b.edit().log()
    np.testing.assert_array_equal(a.features().X, b.features().X)
    b.features().store.verify()
    assert files_of(a.path) == files_of(b.path)


def files_of(herd):
    return {
        path.relative_to(herd).as_posix(): path.read_bytes()
        for path in herd.rglob("*")
        if path.is_file()
        and not {"checkpoints", "incoming"} & set(path.parts)
        and not path.name.startswith(("edits.sqlite", ".lock", REMOTES))
    }


def published(url=URL):
    return sorted(name for name in Store(url).sizes("published"))
