"""The versions of a clustering on disk: written once, never changed, one of them current."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imageherd.clustering import Cluster, Clustering
from imageherd.edits.journal import Journal
from imageherd.errors import ImageherdError
from imageherd.features.items import read_parquet
from imageherd.files import read_json, write_atomically, write_json
from imageherd.heads import load_head
from imageherd.heads.base import Head
from imageherd.quality import Quality

FORMAT = 1
MAX_NAME = 200


def versions_of(herd: Path, name: str) -> Versions:
    """Return the versions of the clustering `name` of a herd; there may be none yet.

    Raises
    ------
    ImageherdError
        If `name` cannot be the name of a clustering.
    """
    if not re.fullmatch(r"[\w][\w .-]{0,99}", name):
        raise ImageherdError(
            f"{name!r} cannot be the name of a clustering: use letters, digits, spaces, "
            "dots, dashes and underscores."
        )
    return Versions(herd / "clusterings" / name)


def clustering_of(herd: Path, name: str) -> Clustering:
    """Return the current version of a clustering of a herd.

    Raises
    ------
    ImageherdError
        If it has none of this name.
    """
    found = versions_of(herd, name).current()
    if found is None:
        known = sorted(p.parent.name for p in herd.glob("clusterings/*/current.json"))
        raise ImageherdError(
            f"{herd} has no clustering {name!r} (it has {', '.join(known) or 'none yet'}); run "
            "`imageherd cluster`."
        )
    return found


def edits_of(clustering: Clustering) -> str:
    """Return the version whose edits are a clustering's too: its own, or the one it extends."""
    return str(clustering.config.get("edits_of", clustering.version))


def extending(clustering: Clustering, before: Clustering) -> Clustering:
    """Return the clustering so that, once written, the edits of the version `before` are its own.

    It must have the images of that version in the clusters that they were in.
    """
    return replace(clustering, config=clustering.config | {"edits_of": edits_of(before)})


def checked_name(uid: int, name: str) -> str:
    """Return a name given by a person, on one line; refuse what is none."""
    name = " ".join(name.split())
    if not 0 < len(name) <= MAX_NAME:
        raise ImageherdError(
            f"The new name of cluster {uid} has {len(name)} characters; give 1 to {MAX_NAME}."
        )
    return name


class Versions:
    """The versions of one clustering in a herd: a folder of folders, each immutable once written.

    Parameters
    ----------
    folder : Path
        ``clusterings/<name>`` of the herd.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current_version(self) -> str | None:
        """Return the name of the version that counts, None if there is none."""
        pointer = self.folder / "current.json"
        try:
            return str(read_json(pointer)["version"]) if pointer.exists() else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(self.folder, error) from error

    def current(self) -> Clustering | None:
        """Read the version that counts, with the names given by a person; None if there is none.

        It is as the head gave it; `imageherd.edits` has what a person has changed.
        """
        version = self.current_version()
        if version is None:
            return None
        folder = self.folder / version
        try:
            config = read_json(folder / "clusters.json")
            table = read_parquet(folder / "assignments.parquet")
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise self._unreadable(folder, error) from error
        if config["format"] > FORMAT:
            raise ImageherdError(
                f"{folder} was written by a newer imageherd (format {config['format']}, this one "
                f"reads up to {FORMAT}); update imageherd to read it."
            )
        given = self.given_names()
        clusters = [Cluster(**c) for c in config.pop("clusters")]
        del config["format"]
        config["next_uid"] = max(config["next_uid"], Journal(self.folder).next_uid())
        return Clustering(
            name=self.folder.name,
            version=folder.name,
            rows=table["row"].to_numpy(),
            uids=table["uid"].to_numpy(),
            probability=table["probability"].to_numpy(),
            second=table["second"].to_numpy(),
            clusters=[replace(c, name=given.get(c.uid, c.name)) for c in clusters],
            config=config,
            parts=table["part"].to_numpy() if "part" in table.column_names else None,
            folder=self.folder,
            quality=_quality(table),
            by_hand=table["by_hand"].to_numpy() if "by_hand" in table.column_names else None,
        )

    def _unreadable(self, folder: Path, error: Exception) -> ImageherdError:
        return ImageherdError(
            f"The clustering in {folder} cannot be read ({error}); run `imageherd cluster`."
        )

    def head(self, version: str, *, device: str = "auto") -> Head:
        """Load the head that gave this version."""
        return load_head(self.folder / version, device=device)

    def write(
        self, clustering: Clustering, head: Head, history: Sequence[dict[str, float]]
    ) -> Clustering:
        """Write `clustering` as the next version and make it the one that counts."""
        version = f"v{self._last_version() + 1:04d}"
        temporary = self.folder / f".{version}.{os.getpid()}.tmp"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            head.save(temporary)
            columns = {
                "row": clustering.rows.astype(np.int64),
                "uid": clustering.uids.astype(np.int32),
                "probability": clustering.probability.astype(np.float32),
                "second": clustering.second.astype(np.int32),
            }
            if clustering.parts is not None:
                columns["part"] = clustering.parts.astype(np.int32)
            if clustering.by_hand is not None:
                columns["by_hand"] = clustering.by_hand
            if clustering.quality is not None:
                columns |= vars(clustering.quality)
            _write_table(temporary / "assignments.parquet", columns)
            if history:
                # Not every epoch tells the same: some look at more than others do.
                keys = dict.fromkeys(key for epoch in history for key in epoch)
                _write_table(
                    temporary / "history.parquet", {k: [h.get(k) for h in history] for k in keys}
                )
            content = {"format": FORMAT, **clustering.config}
            content["clusters"] = [asdict(c) for c in clustering.clusters]
            write_json(temporary / "clusters.json", content)
            temporary.rename(self.folder / version)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        write_json(self.folder / "current.json", {"version": version})
        given = self.given_names()
        named = [replace(c, name=given.get(c.uid, c.name)) for c in clustering.clusters]
        return replace(clustering, version=version, clusters=named, folder=self.folder)

    def given_names(self) -> dict[int, str]:
        """Return the names given by a person, by uid: those kept here, and by the journal."""
        return self._kept_names() | Journal(self.folder).names()

    def _kept_names(self) -> dict[int, str]:
        path = self.folder / "names.json"
        if not path.exists():
            return {}
        try:
            return {int(uid): name for uid, name in read_json(path).items()}
        except (ValueError, AttributeError) as error:
            raise ImageherdError(
                f"{path} is damaged ({error}); restore it, or delete it and give the names anew."
            ) from error

    def give_name(self, uid: int, name: str) -> None:
        """Keep a name that a person gave to a cluster which this one came from."""
        write_json(self.folder / "names.json", {**self._kept_names(), uid: checked_name(uid, name)})

    def _last_version(self) -> int:
        versions = [p.name for p in self.folder.glob("v[0-9]*")]
        return max((int(v[1:]) for v in versions), default=0)


def _quality(table: pa.Table) -> Quality | None:
    names = [field.name for field in fields(Quality)]
    if not set(names) <= set(table.column_names):
        return None
    return Quality(**{name: table[name].to_numpy() for name in names})


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    write_atomically(path, lambda file: pq.write_table(pa.table(columns), file))
