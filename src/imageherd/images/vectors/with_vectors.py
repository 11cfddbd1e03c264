"""Images and the vectors that someone has computed of them, joined by the images' paths."""

from __future__ import annotations

import os
import warnings
from functools import cached_property
from pathlib import Path

from imageherd.errors import ImageherdError
from imageherd.images.names import display_path
from imageherd.images.source import Source, shown_uri
from imageherd.images.vectors.vector_file import VectorFile


class WithVectors:
    """A source of images whose vectors are in a file beside it.

    Which vector belongs to which image is said by a name for each vector, in a file of keys or in
    the Parquet file's column key or path: the image's path below the source's root, as reports and
    exports show it. Never by position alone: one image more or less, or another order, would give
    every image another one's vector, and nothing would show it.

    Parameters
    ----------
    pictures : Source
        The images.
    file : VectorFile
        Their vectors.
    keys : str or Path, optional
        A text file with the path of each vector's image, one a line, in the vectors' order; by
        default what the Parquet file says.

    Raises
    ------
    ImageherdError
        If nothing says which vector belongs to which image, or it says so for another number of
        vectors or twice for one image.
    """

    def __init__(self, pictures: Source, file: VectorFile, keys: str | Path | None = None) -> None:
        self.pictures, self.file = pictures, file
        self.uri, self.name = pictures.uri, pictures.name
        self.description = f"{pictures.description} with {file.description}"
        self.scan, self.read, self.path = pictures.scan, pictures.read, pictures.path
        self.shown, self.is_there = pictures.shown, pictures.is_there
        if hasattr(pictures, "columns"):
            self.columns = pictures.columns
        self._names = self._named(keys)

    def _named(self, keys: str | Path | None) -> dict[bytes, int]:
        where = f"{self.file.root}" if keys is None else f"{keys}"
        names = self.file.keys if keys is None else _lines(Path(keys))
        if names is None:
            raise ImageherdError(
                f"{where} does not say which vector belongs to which image, and their order alone "
                "is no safe sign. Give --keys with a text file: the path of each vector's image "
                f"in {self.name}, one a line, in the vectors' order."
            )
        if len(names) != len(self.file):
            raise ImageherdError(
                f"{where} has {len(names):,} paths for the {len(self.file):,} vectors of "
                f"{self.file.root}; give one for each."
            )
        root = os.fsencode(shown_uri(self.uri)) + b"/"
        found: dict[bytes, int] = {}
        for position, name in enumerate(names):
            key = name.removeprefix(root).removeprefix(b"./")
            if found.setdefault(key, position) != position:
                raise ImageherdError(
                    f"{where} names {display_path(key)} twice, for the vectors {found[key]} and "
                    f"{position}; an image has one vector."
                )
        return found

    @cached_property
    def position(self) -> dict[bytes, int]:
        """Which vector each image has, by the image's key; says so if some have none.

        Raises
        ------
        ImageherdError
            If no image has one.
        """
        keys = [entry.key for entry in self.scan()]
        found = {}
        for key in keys:
            at = self._names.get(key, self._names.get(display_path(key).encode()))
            if at is not None:
                found[key] = at
        if not found:
            example = display_path(next(iter(self._names)))
            raise ImageherdError(
                f"None of the images in {self.name} has a vector in {self.file.root}: the images' "
                f"paths are such as {display_path(keys[0])!r}, the vectors' such as {example!r}."
            )
        lacking = [key for key in keys if key not in found]
        if lacking:
            few = ", ".join(map(display_path, lacking[:3])) + (", ..." if len(lacking) > 3 else "")
            warnings.warn(
                f"{len(lacking):,} of the {len(keys):,} images have no vector in {self.file.root} "
                f"({few}); they take no part.",
                stacklevel=1,
            )
        if len(found) < len(self._names):
            warnings.warn(
                f"{len(self._names) - len(found):,} of the {len(self._names):,} vectors of "
                f"{self.file.root} are of no image in {self.name}; they are left out.",
                stacklevel=1,
            )
        return found


def _lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageherdError(
            f"The keys {path} cannot be read: {error.strerror}. Give a text file with the path of "
            "each vector's image, one a line."
        ) from error
    return [line.rstrip(b"\r") for line in content.removesuffix(b"\n").split(b"\n")]
