"""Where a herd's images are: folders that move, and folders that are gone."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from imageherd.backbones import Backbone
from imageherd.errors import ImageherdError
from imageherd.features.items import DELETED, Items
from imageherd.features.listing import Listed
from imageherd.features.pipeline import EmbedSummary, embed_source
from imageherd.files import write_json
from imageherd.images.folder import FolderSource
from imageherd.project import FILE, read_project, register_source, set_features


def sources_of(herd: Path) -> list[FolderSource]:
    """Return the herd's sources, in the order of their indices, there or not."""
    return [FolderSource.from_uri(uri) for uri in read_project(herd)["sources"]]


def source_index(herd: Path, folder: Listed, moved_from: str | Path | None = None) -> int:
    """Return the index a source has, or will have once it is registered or moved.

    Parameters
    ----------
    herd : Path
        The herd; need not exist.
    folder : Listed
        The source.
    moved_from : str or Path, optional
        Where it was before.
    """
    known = read_project(herd)["sources"] if (herd / FILE).is_file() else []
    before = _uri(moved_from) if moved_from is not None else None
    for uri in (before, folder.uri):
        if uri in known:
            return int(known.index(uri))
    return len(known)


def add_source(
    herd: Path,
    items: Items,
    folder: Listed,
    net: Backbone,
    backbone: str,
    workers: int | None,
    *,
    moved_from: str | Path | None = None,
) -> EmbedSummary:
    """Make a folder one of the herd's sources and embed what is new in it; the lock must be held.

    Parameters
    ----------
    herd : Path
        The herd.
    items : Items
        Its images.
    folder : Listed
        The source.
    net : Backbone
        What embeds.
    backbone : str
        The name it goes by.
    workers : int or None
        Decoding threads.
    moved_from : str or Path, optional
        Where the folder was before.
    """
    folder.scan()  # a folder without images raises here, and does not become a source
    if moved_from is not None:
        move_source(herd, items, folder, moved_from)
    index = register_source(herd, folder.uri)
    shards = herd / "features" / net.key
    summary = embed_source(items, folder, index, net, shards, workers=workers)
    set_features(herd, net.key, backbone)
    warn_of_gone_sources(herd, items, folder)
    return summary


def move_source(herd: Path, items: Items, folder: Listed, moved_from: str | Path) -> None:
    """Let the images of the source `moved_from` be looked for in `folder` from now on.

    Their rows stay what they are. Rows that `folder` has as a source of its own, of a run that knew
    nothing of the move, are marked deleted. Done already, it does nothing. The herd's lock must be
    held.

    Raises
    ------
    ImageherdError
        If `moved_from` is no source of the herd, or still holds images.
    """
    project = read_project(herd)
    known, before = project["sources"], _uri(moved_from)
    live = _live(items, len(known))
    if before not in known or (folder.uri in known and not live[known.index(before)]):
        if folder.uri in known:
            return
        there = ", ".join(uri.partition(":")[2] for uri in known)
        raise ImageherdError(
            f"{moved_from} is none of the folders that {herd} was made from; these are {there}."
        )
    if _has_images(Path(moved_from)):
        raise ImageherdError(
            f"{moved_from} still holds images, so it has not moved. To have both folders in {herd} "
            "say nothing of a move."
        )
    old = known.index(before)
    known[old] = folder.uri
    if folder.uri in known[:old] + known[old + 1 :]:
        new = next(i for i, uri in enumerate(known) if uri == folder.uri and i != old)
        table = items.table()
        ours = pc.and_(pc.equal(table["source"], new), pc.not_equal(table["status"], DELETED))
        for row in table["row"].filter(ours).to_pylist():
            items.change(row, status=DELETED, reason="the same file has a row of its old folder")
        # Before the sources: a run killed in between finds everything still to be done.
        items.save()
        known[new] = before
    write_json(herd / FILE, project)


def warn_of_gone_sources(herd: Path, items: Items, folder: Listed) -> None:
    """Warn of other sources than `folder` that have images but are no longer there."""
    sources = sources_of(herd)
    for source, n in zip(sources, _live(items, len(sources)), strict=True):
        if n and source.uri != folder.uri and not source.root.is_dir():
            root = source.uri.partition(":")[2]
            warnings.warn(
                f"{root} is no longer there; its images, {n:,} of them, stay in the herd. If the "
                f"folder has moved: imageherd embed NEW --herd {herd} --moved-from {root}",
                stacklevel=1,
            )


def _uri(root: str | Path) -> str:
    return FolderSource(root, must_exist=False).uri


def _live(items: Items, n_sources: int) -> list[int]:
    table = items.table()
    live = table["source"].filter(pc.not_equal(table["status"], DELETED)).to_numpy()
    counts: list[int] = np.bincount(live, minlength=n_sources).tolist()
    return counts


def _has_images(root: Path) -> bool:
    try:
        return bool(FolderSource(root).scan())
    except ImageherdError:
        return False
