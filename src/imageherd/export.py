"""A clustering for others to use: a table, vectors included, or a folder a cluster."""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from imageherd.clustering import Clustering
from imageherd.errors import ImageherdError
from imageherd.features.items import DELETED, OK
from imageherd.features.store import SHARD_ROWS, FeatureSet
from imageherd.files import write_atomically
from imageherd.images.decode import FORMATS as IMAGE_FORMATS
from imageherd.images.decode import UnreadableImageError
from imageherd.images.names import has_image_name
from imageherd.images.source import Source
from imageherd.images.texts import TextFile
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.progress import progress
from imageherd.review import most_doubtful

FORMATS = ("csv", "parquet", "folders")
LINKS = ("copy", "symlink", "hardlink")

# What some tables have besides the columns of assignments_table.
_ADDED = ("rank", "doubt", "why", "features")


def export(
    clustering: Clustering,
    items: pa.Table,
    sources: list[Source],
    features: FeatureSet,
    destination: Path,
    *,
    to: str = "csv",
    link: str = "copy",
    review: int = 0,
    columns: pa.Table | None = None,
) -> Path:
    """Write `clustering` to `destination`; what is there is never overwritten.

    Parameters
    ----------
    clustering : Clustering
        What to write.
    items : pyarrow.Table
        The herd's items.
    sources : list of Source
        Where the images are.
    features : FeatureSet
        The vectors that go into a Parquet file.
    destination : Path
        A new file, or for "folders" a new or empty folder.
    to : {"csv", "parquet", "folders"}, default="csv"
        "csv": every image with its cluster, unreadable ones included. "parquet": the same with
        the features as fixed-size lists. "folders": one folder a cluster. Images that are gone
        are in none of them.
    link : {"copy", "symlink", "hardlink"}, default="copy"
        How the images get into the folders.
    review : int, default=0
        Write only this many images, those most worth a look, with the reason; see
        `imageherd.review.most_doubtful`. In folders each file name begins with its rank, and
        ``review.csv`` lies beside them.
    columns : pyarrow.Table, optional
        What is said of each item beside, as from `imageherd.columns.columns_of`: goes into every
        table, see `assignments_table`.

    Raises
    ------
    ImageherdError
        If `to` or `link` is not known, `destination` is there already, or a review is asked for
        as Parquet or of a clustering that does not tell the quality of its images' places.
    """
    for value, name, allowed in ((to, "to", FORMATS), (link, "link", LINKS)):
        if value not in allowed:
            raise ImageherdError(f"{name}={value!r} is not known; choose {', '.join(allowed)}.")
    taken = any(destination.iterdir()) if destination.is_dir() else os.path.lexists(destination)
    if taken or (to != "folders" and destination.is_dir()):
        raise ImageherdError(
            f"{destination} exists already; export never overwrites. Name another."
        )
    if review:
        listed = assignments_table(clustering, items, columns)
        _write_review(clustering, items, listed, sources, destination, to, link, review)
    elif to == "folders":
        _write_folders(clustering, items, sources, destination, link)
    else:
        table = assignments_table(clustering, items, columns)
        if to == "csv":
            write_atomically(destination, lambda file: pyarrow.csv.write_csv(table, file))
        else:
            write_atomically(destination, lambda file: _write_parquet(table, features, file))
    return destination


def assignments_table(
    clustering: Clustering, items: pa.Table, columns: pa.Table | None = None
) -> pa.Table:
    """Return one row an image that is still there: what it is, its cluster, or why it has none.

    Columns: row, path, status, reason, uid, name, probability, second_name, agreement, outlier,
    duplicate_of (the row of the image fitted for it; null if it was itself), taken_at, width,
    height; of a clustering with a person's edits by_hand too: whether they placed the image. An
    image without a cluster has nulls there, one of an old clustering in agreement,
    outlier and duplicate_of. Then the columns of `columns`, a row an item; one whose name is taken
    is called source_NAME.
    """
    there = pc.not_equal(items["status"], DELETED)
    items = items.filter(there)
    rows = items["row"].to_numpy()
    position = np.searchsorted(clustering.rows, rows)
    position[position == len(clustering.rows)] = 0
    missing = clustering.rows[position] != rows
    names = clustering.names()
    uids, seconds = clustering.uids[position], clustering.second[position]
    table = pa.table(
        {
            "row": items["row"],
            "path": items["path"],
            "status": items["status"],
            "reason": items["reason"],
            "uid": pa.array(uids, mask=missing),
            "name": pa.array([names[int(uid)] for uid in uids], pa.string(), mask=missing),
            "probability": pa.array(clustering.probability[position], mask=missing),
            "second_name": pa.array(
                [names.get(int(uid)) for uid in seconds], pa.string(), mask=missing
            ),
            **_quality_columns(clustering, position, missing),
            "taken_at": items["taken_at"],
            "width": items["width"],
            "height": items["height"],
        }
    )
    if clustering.by_hand is not None:
        placed = pa.array(clustering.by_hand[position], mask=missing)
        table = table.append_column("by_hand", placed)
    return table if columns is None else _beside(table, columns, there)


def _beside(table: pa.Table, columns: pa.Table, there: pa.ChunkedArray) -> pa.Table:
    for name in columns.column_names:
        free = name
        while free in (*table.column_names, *_ADDED):
            free = f"source_{free}"
        table = table.append_column(free, columns[name].filter(there))
    return table


def _quality_columns(
    clustering: Clustering, position: NDArray[np.int64], missing: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    quality, n = clustering.quality, len(position)
    if quality is None:
        kinds = {"agreement": pa.float32(), "outlier": pa.float32(), "duplicate_of": pa.int64()}
        return {name: pa.nulls(n, kind) for name, kind in kinds.items()}
    agreement, outlier = quality.agreement[position], quality.outlier[position]
    of = quality.duplicate_of[position]
    return {
        "agreement": pa.array(agreement, mask=missing | np.isnan(agreement)),
        "outlier": pa.array(outlier, mask=missing | np.isnan(outlier)),
        "duplicate_of": pa.array(of, mask=missing | (of < 0)),
    }


def _write_review(
    clustering: Clustering,
    items: pa.Table,
    listed: pa.Table,
    sources: list[Source],
    destination: Path,
    to: str,
    link: str,
    n: int,
) -> None:
    if to == "parquet":
        raise ImageherdError("A review is a table or folders; choose to='csv' or to='folders'.")
    there = pc.not_equal(items["status"], DELETED).to_numpy()[clustering.rows]
    doubts = most_doubtful(clustering, n, there)
    rows = clustering.rows[[doubt.position for doubt in doubts]]
    at = np.searchsorted(listed["row"].to_numpy(), rows)
    ranks = np.arange(1, len(doubts) + 1)
    table = pa.table(
        {
            "rank": ranks,
            "doubt": np.array([round(doubt.score, 6) for doubt in doubts]),
            "why": pa.array([doubt.reason for doubt in doubts], pa.string()),
            **{
                name: listed[name].take(pa.array(at))
                for name in listed.column_names
                if name not in ("status", "reason")
            },
        }
    )
    csv = destination
    if to == "folders":
        width = len(str(len(doubts)))
        prefixes = {int(row): f"{i:0{width}d} " for i, row in zip(ranks, rows, strict=True)}
        _write_folders(clustering, items, sources, destination, link, prefixes)
        csv = destination / "review.csv"
    write_atomically(csv, lambda file: pyarrow.csv.write_csv(table, file))


def _write_parquet(table: pa.Table, features: FeatureSet, file: object) -> None:
    kind = pa.list_(pa.float32(), features.dim)
    schema = table.schema.append(pa.field("features", kind))
    present = np.isin(table["row"].to_numpy(), features.rows_present())
    present &= pc.equal(table["status"], OK).to_numpy()
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(table), SHARD_ROWS):
            part = table.slice(start, SHARD_ROWS)
            rows, have = part["row"].to_numpy(), present[start : start + SHARD_ROWS]
            vectors = np.zeros((len(rows), features.dim), dtype=np.float32)
            vectors[have] = features.read(rows[have])
            column = pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.ravel()), type=kind, mask=pa.array(~have)
            )
            writer.write_table(part.append_column("features", column))


def _write_folders(
    clustering: Clustering,
    items: pa.Table,
    sources: list[Source],
    destination: Path,
    link: str,
    prefixes: dict[int, str] | None = None,
) -> None:
    """Write a folder a cluster, of all images or of the rows that `prefixes` has, so named."""
    table = items.take(pa.array(clustering.rows))
    # What lies now under the name of a replaced image is another image.
    there = pc.not_equal(table["status"], DELETED).to_numpy()
    if prefixes is not None:
        there = there & np.isin(clustering.rows, list(prefixes))
    uids = clustering.uids[there].tolist()
    table = table.filter(pa.array(there))
    keys, indices = table["key"].to_pylist(), table["source"].to_pylist()
    if any(isinstance(sources[index], VectorFile) for index in set(indices)):
        raise ImageherdError(
            "Vectors without images are no files to put into folders; export to csv or parquet."
        )
    if link != "copy":
        _refuse_links(sources, keys, indices, link)
    starts = [(prefixes or {}).get(row, "") for row in table["row"].to_pylist()]
    folders = folder_names(clustering.names())
    used: dict[tuple[str, bytes], int] = {}
    gone: list[str] = []
    destination.mkdir(parents=True, exist_ok=True)
    for uid in set(uids):
        (destination / folders[uid]).mkdir()
    with progress("Exporting", len(keys)) as advance:
        times = table["mtime_ns"].to_pylist()
        for uid, key, index, start, time in zip(uids, keys, indices, starts, times, strict=True):
            source, folder = sources[index], destination / folders[uid]
            origin = source.path(key)
            data = _contents(source, key) if origin is None else None
            if data is None if origin is None else not origin.exists():
                gone.append(source.shown(key))
                continue
            name = start.encode() + key.rpartition(b"/")[2] + _missing_ending(source, key, data)
            target = folder / os.fsdecode(_free_name(folder.name, name, used))
            if origin is not None:
                _place(origin, target, link)
            elif data is not None:
                target.write_bytes(data)
                os.utime(target, ns=(time, time))
            advance(1)
    if gone:
        raise ImageherdError(_what_is_gone(gone, len(keys), destination))


def _refuse_links(sources: list[Source], keys: list[bytes], indices: list[int], link: str) -> None:
    for key, index in zip(keys, indices, strict=True):
        if sources[index].path(key) is None:
            raise ImageherdError(
                f"{sources[index].shown(key)} is no file of its own, so there can be no {link} to "
                "it; use --link copy."
            )


def _contents(source: Source, key: bytes) -> bytes | None:
    try:
        return source.read(key)
    except UnreadableImageError:
        return None


def _missing_ending(source: Source, key: bytes, data: bytes | None) -> bytes:
    """Return the ending that an image needs as a file where its key has none, as in a table."""
    if isinstance(source, TextFile):
        return b".txt"
    if data is None or has_image_name(key):
        return b""
    with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
        return f".{image.format}".lower().encode()


def _what_is_gone(gone: list[str], n: int, destination: Path) -> str:
    if len(gone) == n:
        # The folders made are empty: in the way of the next try, and of no use.
        for folder in (*destination.iterdir(), destination):
            folder.rmdir()
        return (
            f"None of the {n} images is where it was, such as {gone[0]}. Put them back there, or "
            "sort the folder they are in now: imageherd sort FOLDER"
        )
    return (
        f"{len(gone)} of {n} images are no longer where they were, {gone[0]} among them; the "
        f"others are in {destination}. `imageherd embed` takes note of what is gone."
    )


def _free_name(folder: str, key: bytes, used: dict[tuple[str, bytes], int]) -> bytes:
    """Return a file name that no other image took in this folder: a.jpg, a (2).jpg, ..."""
    name = key.rpartition(b"/")[2]
    stem, dot, suffix = name.rpartition(b".")
    # Many file systems take A.jpg and a.jpg for the same file.
    wanted = (folder, name.lower())
    while (folder, name.lower()) in used:
        used[wanted] += 1
        name = stem + f" ({used[wanted]})".encode() + dot + suffix
    used[folder, name.lower()] = 1
    return name


def _place(origin: Path, target: Path, link: str) -> None:
    try:
        if link == "copy":
            shutil.copy2(origin, target)
        elif link == "symlink":
            target.symlink_to(origin.resolve())
        else:
            target.hardlink_to(origin.resolve())
    except OSError as error:
        raise ImageherdError(
            f"{origin} cannot be put at {target} by {link}: {error.strerror}. "
            f"{'Hard links need the same disk; use --link copy.' if link == 'hardlink' else ''}"
        ) from error


def folder_names(names: dict[int, str]) -> dict[int, str]:
    """Return a folder name for each cluster that every file system takes, no two the same."""
    found: dict[int, str] = {}
    taken: set[str] = set()
    for uid, name in names.items():
        text = safe_name(name)
        while text.casefold() in taken:
            text = f"{text} ({uid})"
        taken.add(text.casefold())
        found[uid] = text
    return found


def safe_name(name: str) -> str:
    """Turn a cluster's name into a folder name: at most 100 bytes, no sign with a meaning."""
    text = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "-", name)
    text = text.encode(errors="ignore")[:100].decode(errors="ignore").strip(" .")
    return text or "cluster"
