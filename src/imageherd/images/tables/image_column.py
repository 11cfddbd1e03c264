"""Which column of a table holds the images, and which the paths that tell them apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from imageherd.errors import ImageherdError
from imageherd.images.names import has_image_name

IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "pixel_values")
"""Names that decide where several columns could hold the images, in any mixture of capitals."""

PATH_NAMES = (
    *("path", "file_path", "filepath", "image_path", "file_name", "filename", "file"),
    *("image_file", "image", "img", "url", "image_url", "uri", "href", "location"),
)
"""Names of columns of text taken for paths or URLs, the first that is there."""


@dataclass(frozen=True)
class ImageColumn:
    """The column that holds the images.

    Attributes
    ----------
    name : str
        Its name.
    kind : {"bytes", "struct", "path"}
        Files, structs of ``bytes`` and perhaps ``path`` as Hugging Face datasets write them, or
        paths and URLs.
    paths : tuple of str
        Columns that may tell images of "bytes" and "struct" apart, the best first; a dotted name
        is a field of a struct.
    """

    name: str
    kind: str
    paths: tuple[str, ...]


def image_column(schema: pa.Schema, where: str, wanted: str | None = None) -> ImageColumn:
    """Find the column of the images.

    One that Hugging Face metadata calls images, else one of files or of structs with ``bytes``;
    where that leaves several, the one named as in `IMAGE_NAMES`. Without any: the column of text
    that comes first in `PATH_NAMES`.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the table.
    where : str
        What an error calls the table.
    wanted : str, optional
        The column to take; found by default.

    Raises
    ------
    ImageherdError
        If no column fits, several do, or `wanted` is not there or cannot hold images.
    """
    kinds = {field.name: kind for field in schema if (kind := _kind(field.type))}
    columns = ", ".join(schema.names) or "none"
    if wanted is not None:
        if wanted not in schema.names:
            raise ImageherdError(f"{where} has no column {wanted}; its columns are {columns}.")
        if wanted not in kinds:
            raise ImageherdError(
                f"Column {wanted} of {where} holds {schema.field(wanted).type}; images are files "
                "as bytes, structs of bytes and path, or paths."
            )
        return _described(schema, wanted, kinds[wanted])
    name = _chosen(schema, kinds, where)
    if name is None:
        if any(has_image_name(column.encode()) for column in schema.names):
            raise ImageherdError(
                f"The first line of {where} is an image's path already. A list begins with a line "
                "that names its columns: put the word path there."
            )
        raise ImageherdError(
            f"{where} has no column that looks like images: its columns are {columns}. Say which "
            "holds them, as files or as paths: --image-column NAME"
        )
    return _described(schema, name, kinds[name])


def features_of(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's metadata says of each column; empty where there is none."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: feature for name, feature in said.items() if isinstance(feature, dict)}


def _chosen(schema: pa.Schema, kinds: dict[str, str], where: str) -> str | None:
    said = features_of(schema)
    marked = [name for name in kinds if said.get(name, {}).get("_type") == "Image"]
    fitting = marked or [name for name, kind in kinds.items() if kind != "path"]
    if len(fitting) > 1:
        known = [name for name in fitting if name.lower() in IMAGE_NAMES]
        if len(known) != 1:
            raise ImageherdError(
                f"Several columns of {where} may hold the images: {', '.join(fitting)}. Say which: "
                f"--image-column {fitting[0]}"
            )
        fitting = known
    return fitting[0] if fitting else _path_column(schema)


def _described(schema: pa.Schema, name: str, kind: str) -> ImageColumn:
    paths = []
    if kind == "struct" and _field(schema.field(name).type, "path") is not None:
        paths.append(f"{name}.path")
    beside = _path_column(schema)
    if kind != "path" and beside is not None:
        paths.append(beside)
    return ImageColumn(name, kind, tuple(paths))


def _path_column(schema: pa.Schema) -> str | None:
    texts = {field.name.lower(): field.name for field in schema if is_text(field.type)}
    return next((texts[name] for name in PATH_NAMES if name in texts), None)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        inside = _field(kind, "bytes")
        return "struct" if inside is not None and is_bytes(inside) else ""
    if is_bytes(kind):
        return "bytes"
    return "path" if is_text(kind) else ""


def _field(struct: pa.DataType, name: str) -> pa.DataType | None:
    return next((field.type for field in struct if field.name == name), None)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes."""
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
