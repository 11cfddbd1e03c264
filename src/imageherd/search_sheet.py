"""The sheet of a search: one HTML file with the pictures that were found, nearest first."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pyarrow as pa

from imageherd.errors import ImageherdError
from imageherd.files import write_atomically
from imageherd.images.folder import FolderSource
from imageherd.images.names import display_path
from imageherd.images.source import Source
from imageherd.report.gather import texter, thumbnailer
from imageherd.report.page import MAX_BYTES
from imageherd.report.thumbnails import embed
from imageherd.search_space import Hits

PX = 320


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Attributes
    ----------
    rank : int
        1 is the nearest.
    similarity : float
        To what was searched for.
    cluster : str or None
        Its cluster's name, where it has one.
    path : str
        Display path.
    picture : str or None
        Base64 of a JPEG; None where the picture can no longer be read, or there was no room.
    text : str or None
        What is shown of an item that has no picture.
    """

    rank: int
    similarity: float
    cluster: str | None
    path: str
    picture: str | None
    text: str | None


def write_sheet(
    file: Path,
    hits: Hits,
    clusters: Sequence[str | None],
    items: pa.Table,
    sources: list[Source],
    *,
    image: Path | None = None,
    text: str | None = None,
) -> Path:
    """Write what a search found as one HTML file that fetches nothing and runs no script.

    Parameters
    ----------
    file : Path
        Where to; ends in .html or .htm, and is replaced whole or not at all.
    hits : Hits
        What was found.
    clusters : sequence of (str or None)
        Name of the cluster of each hit, where it has one.
    items : pyarrow.Table
        The herd's items.
    sources : list of Source
        Where the images are.
    image, text : optional
        What was searched for, shown on top; neither for an item, which `hits` knows.

    Raises
    ------
    ImageherdError
        If `file` is a folder or has another ending.

    Notes
    -----
    Pictures are 320 pixels long, upright, about 15 kB each, and stop at 29 MB.
    """
    check_sheet(file)
    shown = items.take(pa.array(hits.rows))
    paths = shown["path"].to_pylist()
    pictures = embed([(i, PX) for i in range(len(paths))], thumbnailer(shown, sources), MAX_BYTES)
    words = texter(shown, sources)
    tiles = [
        Tile(i + 1, float(similarity), clusters[i], path, pictures.get(i), words(i))
        for i, (path, similarity) in enumerate(zip(paths, hits.similarity, strict=True))
    ]
    title, asked, where = text or "", None, sources
    if image is not None:
        title = display_path(os.fsencode(image.name))
        asked = pa.table({"key": [os.fsencode(image.name)], "source": [0]})
        where = [FolderSource(image.absolute().parent, must_exist=False)]
    elif hits.item is not None:
        title, asked = items["path"][hits.item].as_py(), items.slice(hits.item, 1)
    picture = (
        embed([(0, PX)], thumbnailer(asked, where), MAX_BYTES)[0] if asked is not None else None
    )
    about = [f"The {len(tiles)} nearest by {hits.key}, cosine similarity, nearest first."]
    if hits.recall is not None:
        about.append(f"Found through an index that finds {hits.recall:.1%} of the nearest 64.")
    page = _page(title=title, picture=picture, about=about, tiles=tiles)
    write_atomically(file, lambda out: out.write(page))
    return file


def check_sheet(file: Path) -> None:
    """Raise ImageherdError if a sheet cannot go there, or would take another file's place."""
    if file.is_dir():
        raise ImageherdError(f"{file} is a folder; name a file: {file / 'search.html'}")
    if file.suffix.lower() not in (".html", ".htm"):
        raise ImageherdError(f"{file} is no name for a sheet; let it end in .html.")


def _page(**contents: object) -> bytes:
    from jinja2 import Environment
    from markupsafe import Markup

    assets = files("imageherd.report")
    style = (assets / "search.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = (assets / "search.html.j2").read_text(encoding="utf-8")
    html = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            style=Markup(style),
            policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
            "base-uri 'none'; form-action 'none'",
            **contents,
        )
    )
    return html.encode("utf-8", "backslashreplace")
