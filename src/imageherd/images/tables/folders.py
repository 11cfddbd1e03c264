"""Folders of tables: telling them from folders of images, and the files in them."""

from __future__ import annotations

import os
from pathlib import Path

from imageherd.images.names import has_image_name, is_skipped
from imageherd.images.tables.files import ARROW, PARQUET

_HUGGING_FACE = ("dataset_info.json", "dataset_dict.json", "state.json")


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset as Hugging Face `datasets` saves it."""
    return any((folder / name).is_file() for name in _HUGGING_FACE)


def is_folder_of_tables(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face dataset, or Parquet or Arrow files but no images.

    Looks at its files and those of the folders in it, no deeper, and no further than the first
    image.
    """
    if is_saved_dataset(folder):
        return True
    if _is_herd(folder):
        return False
    try:
        tables, inside, has_images = _look(folder)
        for below in inside:
            if has_images:
                break
            more, _, has_images = _look(below)
            tables = tables or more
    except OSError:
        return False
    return tables and not has_images


def _look(folder: Path) -> tuple[bool, list[Path], bool]:
    """Return whether a folder holds tables, the folders in it, and whether it holds images."""
    tables = False
    folders: list[Path] = []
    with os.scandir(folder) as listing:
        for child in listing:
            name = os.fsencode(child.name)
            if is_skipped(name):
                continue
            if has_image_name(name):
                return tables, folders, True
            if child.is_dir():
                if not _is_herd(Path(child.path)):
                    folders.append(Path(child.path))
            elif child.name.lower().endswith((*PARQUET, *ARROW)):
                tables = True
    return tables, folders, False


def table_files(root: Path) -> list[Path]:
    """Return the Parquet files in a folder and the folders in it, or else its Arrow files."""
    found: list[Path] = []
    for folder, inside, names in os.walk(root):
        inside[:] = [n for n in inside if not is_skipped(os.fsencode(n)) and not _is_herd(Path(n))]
        found += [Path(folder, name) for name in names if not is_skipped(os.fsencode(name))]
    for endings in (PARQUET, ARROW):
        # What `datasets` computed from the table lies beside it under names of its own.
        fitting = [
            path
            for path in found
            if path.suffix.lower() in endings and not path.name.startswith(("cache-", "indices"))
        ]
        if fitting:
            return sorted(fitting)
    return []


def _is_herd(folder: Path) -> bool:
    return folder.suffix.lower() == ".herd"
