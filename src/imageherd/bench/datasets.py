"""The papers' datasets, as folders of images a user has: where they are looked for, how read.

Nothing is downloaded. A dataset is a folder ``DATA/<name>/{train,test}/<class>/`` (``val`` or
``validation`` will do for ``test``), or a Parquet file ``DATA/<name>.parquet`` with the columns
image, label and split.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from imageherd.errors import ImageherdError
from imageherd.files import read_json
from imageherd.progress import progress

DATASETS = (
    *("cifar10", "cifar20", "cifar100", "stl10"),
    *("imagenet10", "imagenet-dogs", "tiny-imagenet", "imagenet"),
)
TRAIN, TEST = "train", "test"
_SPLITS = {TRAIN: (TRAIN,), TEST: (TEST, "val", "validation")}
_BATCH_ROWS = 256
_PNG = b"\x89PNG"


@cache
def _derived() -> dict[str, dict[str, Any]]:
    """Datasets made from another: CIFAR-20's superclasses, the parts of ImageNet by wnid."""
    found: dict[str, dict[str, Any]] = read_json(Path(__file__).parent / "data" / "datasets.json")
    return found


@cache
def _coarse(dataset: str) -> dict[str, str]:
    groups: dict[str, list[str]] = _derived()[dataset]["superclasses"]
    by_name = {fine: coarse for coarse, fines in groups.items() for fine in fines}
    # CIFAR-100's own numbers are the alphabetical order of its class names.
    return {**by_name, **{str(i): by_name[name] for i, name in enumerate(sorted(by_name))}}


def superclass(dataset: str, name: str) -> str:
    """Return the superclass of a class, by the class's name or its number.

    Parameters
    ----------
    dataset : str
        "cifar20".
    name : str
        Such as "maple_tree", "maple tree" or "47".

    Raises
    ------
    ImageherdError
        If there is no such class.
    """
    known = _coarse(dataset)
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    if plain not in known:
        raise ImageherdError(
            f"{name!r} is not a class of {_derived()[dataset]['source']}: its classes are called "
            "apple to worm, or 0 to 99."
        )
    return known[plain]


def source_of(dataset: str, data: Path) -> str:
    """Return the dataset whose images `dataset` has: itself, or the one it is a part of."""
    derived = _derived().get(dataset)
    if derived is None or ("classes" in derived and _there(data, dataset)):
        return dataset
    return str(derived["source"])


def prepare(dataset: str, data: Path, out: Path) -> Path:
    """Return a folder with ``train/<class>/`` and ``test/<class>/`` of a dataset.

    What lies in such folders is used where it is, through links where the names differ or only
    some of the classes are wanted; Parquet is unpacked once, below `out`.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    data : Path
        The folder the datasets are in.
    out : Path
        Where links and unpacked images may be put.

    Raises
    ------
    ImageherdError
        If the dataset is not there, or not in the form described; the message says what to put
        where.
    """
    source = source_of(dataset, data)
    folder = data / source
    parquet = _parquet_files(data, source)
    if parquet:
        folder = _unpacked(source, parquet, out / "images" / source)
    splits = {split: _split_folder(folder, split, names) for split, names in _SPLITS.items()}
    if not all(splits.values()):
        raise ImageherdError(missing(dataset, data))
    classes = {split: _class_folders(where) for split, where in splits.items() if where}
    wanted = _derived().get(dataset, {}).get("classes") if source != dataset else None
    if wanted:
        classes = {s: {w: c[w] for w in wanted if w in c} for s, c in classes.items()}
    _check_classes(dataset, folder, classes, wanted)
    if not wanted and splits[TEST] == folder / TEST:
        return folder
    return _linked(out / "images" / f"{dataset if wanted else source}-links", classes)


def missing(dataset: str, data: Path) -> str:
    """Say what is missing of a dataset and where to put it."""
    derived = _derived().get(dataset, {})
    source = derived.get("source", dataset)
    part = ""
    if "superclasses" in derived:
        part = f" ({dataset} is {source} with its superclasses as labels)"
    elif derived:
        part = f" (or its {len(derived['classes'])} classes alone in {data / dataset})"
    return (
        f"{dataset} is not there: put its images in {data / source}/train/CLASS/ and "
        f"{data / source}/test/CLASS/, or a Parquet file with the columns image, label and split "
        f"at {data / source}.parquet{part}."
    )


def _there(data: Path, name: str) -> bool:
    return (data / name).is_dir() or bool(_parquet_files(data, name))


def _parquet_files(data: Path, name: str) -> list[Path]:
    single = data / f"{name}.parquet"
    return [single] if single.is_file() else sorted((data / name).glob("*.parquet"))


def _split_folder(folder: Path, split: str, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _class_folders(split: Path) -> dict[str, Path]:
    return {p.name: p for p in sorted(split.iterdir()) if p.is_dir() and p.name[0] != "."}


def _check_classes(
    dataset: str, folder: Path, classes: dict[str, dict[str, Path]], wanted: list[str] | None
) -> None:
    lacking = sorted(set(wanted or classes[TEST]) - set(classes[TRAIN]))
    lacking += sorted(set(wanted or ()) - set(classes[TEST]))
    if lacking or not classes[TEST]:
        what = f"no folder of {lacking[0]}" if lacking else "no folder a class"
        raise ImageherdError(
            f"{dataset}: {folder} has {what} in train or test; the images of each class belong in "
            "a folder of the class's name, the same in both."
        )


def _linked(folder: Path, classes: dict[str, dict[str, Path]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for split, found in classes.items():
        (folder / split).mkdir(parents=True)
        for name, target in found.items():
            (folder / split / name).symlink_to(target.resolve(), target_is_directory=True)
    return folder


def _unpacked(name: str, files: list[Path], folder: Path) -> Path:
    """Write the images of Parquet files as files, all or none, once for each state of the files."""
    stamp = repr([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])
    marker = folder / ".unpacked"
    if marker.is_file() and marker.read_text() == stamp:
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    total = sum(_parquet(file).metadata.num_rows for file in files)
    with progress(f"Unpacking {name}", total) as advance:
        for number, (split, label, image) in enumerate(_images(files)):
            place = partial / split / label.replace(os.sep, "_")
            place.mkdir(parents=True, exist_ok=True)
            ending = ".png" if image.startswith(_PNG) else ".jpg"
            (place / f"{number:07}{ending}").write_bytes(image)
            advance(1)
    (partial / marker.name).write_text(stamp)
    partial.rename(folder)
    return folder


def _images(files: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """Yield split, label and the encoded image of every row."""
    for file in files:
        table = _parquet(file)
        for batch in table.iter_batches(
            _BATCH_ROWS, columns=["split", "label", "image"], use_threads=False
        ):
            for row in batch.to_pylist():
                image = row["image"]
                data = image["bytes"] if isinstance(image, dict) else image
                if data is None or row["label"] is None:
                    continue
                yield str(row["split"]), str(row["label"]), data


def _parquet(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise ImageherdError(f"{file} is no Parquet file: {error}") from error
    lacking = {"image", "label", "split"} - set(table.schema_arrow.names)
    if lacking:
        raise ImageherdError(
            f"{file} has no column {' and no column '.join(sorted(lacking))}; it needs image, "
            f"label and split, and has {', '.join(table.schema_arrow.names)}."
        )
    return table
