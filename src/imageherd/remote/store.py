"""The few things that a herd asks of a store: list, read, put, and put only if absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from imageherd.errors import ImageherdError
from imageherd.images.locations import scheme_of
from imageherd.progress import progress

PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
}
"""What is to be installed for a scheme, beside imageherd."""
THREADS = 8

# Where files lie in folders, which must be there first. Object stores have none.
_FOLDERS = ("file", "local", "sftp", "ssh", "smb", "hdfs")

Thing = TypeVar("Thing")


class Store:
    """A place that fsspec reads and writes, by URL.

    Parameters
    ----------
    url : str
        As ``s3://bucket/photos.herd``. Credentials and endpoints are where the store's own package
        looks for them, such as ``AWS_PROFILE`` and ``AWS_ENDPOINT_URL``.

    Raises
    ------
    ImageherdError
        If it is no URL, or of a kind that is not known or lacks a package.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url, scheme = url.rstrip("/"), scheme_of(url)
        if not scheme:
            raise ImageherdError(
                f"{url} is no URL; write s3://bucket/photos.herd, gs://…, or file:///… for a "
                "folder of this machine."
            )
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            package = PACKAGES.get(scheme)
            what = f"pip install {package}" if package else str(error)
            raise ImageherdError(f"{scheme}:// needs a package that is not here: {what}") from error
        except ValueError as error:
            raise ImageherdError(f"{url} cannot be used: {error}.") from error
        self._root = str(root).rstrip("/")
        self._in_folders = scheme in _FOLDERS
        self._local = scheme in ("file", "local")

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the names of the files below a folder and their sizes in bytes."""
        with self._told("read"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {
            name[len(self._root) :].lstrip("/"): int(about["size"]) for name, about in found.items()
        }

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file, None if there is none of this name."""
        with self._told("read"):
            try:
                return bytes(self._fs.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> bool:
        """Write a new file, whole; returns whether it is ours, not another's of the same name.

        S3, Google Cloud Storage, Azure and this machine's disks refuse a second one of a name
        themselves; of stores that do not it is asked before and looked at after.
        """
        try:
            with self._told("written"):
                self._make_folder(name)
                if self._local:
                    with self._fs.open(self._at(name), "xb") as file:
                        file.write(data)
                else:
                    self._fs.pipe_file(self._at(name), data, mode="create")
        except (ImageherdError, FileExistsError) as error:
            # Each store refuses in its own way, and an answer may get lost on its way to us.
            found = self.read(name)
            if found is None and isinstance(error, ImageherdError):
                raise
            return found == data
        return self.read(name) == data

    def put(self, path: Path, name: str) -> None:
        """Send a file."""
        with self._told("written"):
            self._make_folder(name)
            self._fs.put_file(str(path), self._at(name))

    def get(self, name: str, path: Path) -> None:
        """Fetch a file to a path of this machine.

        Raises
        ------
        ImageherdError
            If it is not there.
        """
        with self._told("read"):
            self._fs.get_file(self._at(name), str(path))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _make_folder(self, name: str) -> None:
        if self._in_folders:
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """Turn what a store's package raises, of many kinds, into an error that names the place."""
        try:
            yield
        except (ImageherdError, FileExistsError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and done == "written":
                raise ImageherdError(f"{self.url} cannot be written: {_reason(error)}") from error
            raise
        except Exception as error:
            raise ImageherdError(f"{self.url} cannot be {done}: {_reason(error)}") from error


def each(task: Callable[[Thing], Any], things: Sequence[Thing], what: str) -> None:
    """Do a task for each of the things, some at a time, and show how far it is.

    After an error, or Ctrl-C, those begun are ended and no more are begun.
    """
    with progress(what, len(things), "files") as advance, ThreadPoolExecutor(THREADS) as pool:
        begun = [pool.submit(task, thing) for thing in things]
        try:
            for one in as_completed(begun):
                one.result()
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
