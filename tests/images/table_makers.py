"""Tables and arrays of given images, for the tests of sources.

Each maker takes a folder and the images, by name, and returns what to give `open_source` and the
key of each image. Rows are not in the order of the names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq

from imageherd.images.decode import decode

Images = dict[str, bytes]
Maker = Callable[[Path, Images], tuple[Path, dict[str, bytes]]]


def table_of(images: Images, kind: str = "struct") -> pa.Table:
    names = list(images)[::-1]
    data = [images[name] for name in names]
    if kind == "struct":
        pairs = zip(data, names, strict=True)
        columns = {"image": [{"bytes": d, "path": n} for d, n in pairs]}
    elif kind == "bytes":
        columns = {"picture": data}
    else:
        columns = {"jpg": data, "file_name": names}
    return pa.table({"id": list(range(len(names))), **columns})


def plain_keys(images: Images) -> dict[str, bytes]:
    return {name: os.fsencode(name) for name in images}


def numbered_keys(names: list[str], below: str = "") -> dict[str, bytes]:
    return {name: f"{below}{i:08d}".encode() for i, name in enumerate(names)}


def parquet(kind: str, row_group_size: int = 2) -> Maker:
    def make(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
        path = root / "photos.parquet"
        pq.write_table(table_of(images, kind), path, row_group_size=row_group_size)
        numbered = numbered_keys(list(images)[::-1])
        return path, numbered if kind == "bytes" else plain_keys(images)

    return make


def parquet_folder(kind: str) -> Maker:
    def make(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
        (root / "set" / "data").mkdir(parents=True)
        keys = {}
        for i in range(2):
            part = dict(list(images.items())[i::2])
            name = f"data/train-{i}.parquet"
            pq.write_table(table_of(part, kind), root / "set" / name)
            keys |= numbered_keys(list(part)[::-1], f"{name}/")
        return root / "set", keys if kind == "bytes" else plain_keys(images)

    return make


def feather(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
    pyarrow.feather.write_feather(table_of(images), root / "photos.feather", chunksize=2)
    return root / "photos.feather", plain_keys(images)


def arrow_stream(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
    table = table_of(images)
    with pa.ipc.new_stream(root / "photos.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return root / "photos.arrow", plain_keys(images)


def files_of(root: Path, images: Images) -> None:
    for name, data in images.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def csv(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
    files_of(root, images)
    table = pa.table({"path": list(images)[::-1]})
    pyarrow.csv.write_csv(table, root / "photos.csv")
    return root / "photos.csv", plain_keys(images)


def parquet_of_paths(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
    files_of(root, images)
    pq.write_table(pa.table({"image_path": list(images)[::-1]}), root / "photos.parquet")
    return root / "photos.parquet", plain_keys(images)


def pixels_of(images: Images) -> np.ndarray:
    return np.stack([np.asarray(decode(data).image) for data in images.values()])


def npy(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
    np.save(root / "photos.npy", pixels_of(images))
    return root / "photos.npy", numbered_keys(list(images))


def npz(root: Path, images: Images) -> tuple[Path, dict[str, bytes]]:
    np.savez_compressed(root / "photos.npz", x=pixels_of(images), y=np.arange(len(images)))
    return root / "photos.npz", numbered_keys(list(images))


MAKERS: dict[str, Maker] = {
    "Parquet of structs": parquet("struct"),
    "Parquet of structs, one row group": parquet("struct", 100),
    "Parquet of bytes": parquet("bytes"),
    "Parquet of bytes and names": parquet("bytes and names"),
    "folder of Parquet of structs": parquet_folder("struct"),
    "folder of Parquet of bytes": parquet_folder("bytes"),
    "Parquet of paths": parquet_of_paths,
    "Feather": feather,
    "Arrow stream": arrow_stream,
    "list of paths": csv,
    "array": npy,
    "arrays in one file": npz,
}
"""Name of a kind of source, and what makes one."""
