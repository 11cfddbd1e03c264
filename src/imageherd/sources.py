"""Where a herd's images are: sources that move, and sources that are gone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from imageherd.columns import keep_columns
from imageherd.errors import ImageherdError
from imageherd.features.computed import Computed, embed_computed
from imageherd.features.items import DELETED, Items
from imageherd.features.listing import Listed
from imageherd.features.pipeline import EmbedSummary, embed_source
from imageherd.features.task import Engine, here
from imageherd.features.views import embed_views
from imageherd.files import write_json
from imageherd.images.names import display_path
from imageherd.images.source import Source, shown_uri, source_from_uri
from imageherd.makers import Maker, feature_set_name
from imageherd.project import FILE, read_project, register_source, set_features


def sources_of(herd: Path) -> list[Source]:
    """Return the herd's sources, in the order of their indices, there or not."""
    return [source_from_uri(uri) for uri in read_project(herd)["sources"]]


def noun_of(uris: Iterable[str]) -> str:
    """Return what the items of some sources are called: image, text or vector, or item of all."""
    nouns = {
        {"texts": "text", "vectors": "vector"}.get(uri.partition(":")[0], "image") for uri in uris
    }
    return nouns.pop() if len(nouns) == 1 else "item"


def source_index(herd: Path, source: Listed, moved_from: str | Path | None = None) -> int:
    """Return the index a source has, or will have once it is registered or moved.

    Parameters
    ----------
    herd : Path
        The herd; need not exist.
    source : Listed
        The source.
    moved_from : str or Path, optional
        Where it was before.
    """
    known = read_project(herd)["sources"] if (herd / FILE).is_file() else []
    before = _uri_of(moved_from, known) if moved_from is not None else None
    for uri in (before, source.uri):
        if uri in known:
            return int(known.index(uri))
    return len(known)


def add_source(
    herd: Path,
    items: Items,
    source: Listed,
    net: Maker,
    backbone: str,
    workers: int | None,
    *,
    moved_from: str | Path | None = None,
    views: int = 0,
    engine: Engine | None = None,
) -> EmbedSummary:
    """Make `source` one of the herd's sources and embed what is new in it; the lock must be held.

    Parameters
    ----------
    herd : Path
        The herd.
    items : Items
        Its images.
    source : Listed
        The source.
    net : Backbone or Computed
        What makes the features.
    backbone : str
        The name it goes by.
    workers : int or None
        Decoding threads.
    moved_from : str or Path, optional
        Where it was before.
    views : int, default=0
        Augmented views each image is to have, see `imageherd.features.views`.
    engine : Engine, optional
        What embeds; by default this process.
    """
    if views < 0:
        raise ImageherdError(f"views={views} is out of range; give a number of at least 0.")
    if views and isinstance(net, Computed):
        raise ImageherdError("Views are made of images; vectors and texts have none.")
    if engine and isinstance(net, Computed):
        raise ImageherdError("Vectors and texts need no network; leave the engine out.")
    if engine and views:
        raise ImageherdError(
            "Views are made by this process: embed with the engine and without views first, then "
            "with views and without the engine."
        )
    source.scan()  # one without images raises here, and does not become a source
    if moved_from is not None:
        move_source(herd, items, source, moved_from)
    index = register_source(herd, source.uri)
    keep_columns(herd, index, source.source)
    shards = herd / "features" / net.key
    if isinstance(net, Computed):
        summary = embed_computed(items, source, index, net, shards, workers=workers)
    else:
        summary = embed_source(
            items, source, index, net, shards, workers=workers, engine=engine or here
        )
        summary.n_views = embed_views(items, source, index, net, shards, views, workers=workers)
    set_features(herd, net.key, feature_set_name(net, backbone))
    warn_of_gone_sources(herd, items, source)
    return summary


def move_source(herd: Path, items: Items, source: Listed, moved_from: str | Path) -> None:
    """Let the images of the source `moved_from` be looked for in `source` from now on.

    Their rows stay what they are, and so they do where a folder has become an archive of the same
    paths. Rows that `source` has as one of its own, of a run that knew nothing of the move, are
    marked deleted. Done already, it does nothing. The herd's lock must be
    held.

    Raises
    ------
    ImageherdError
        If `moved_from` is no source of the herd, or still holds images.
    """
    project = read_project(herd)
    known = project["sources"]
    before = _uri_of(moved_from, known)
    live = _live(items, len(known))
    if before is None or (source.uri in known and not live[known.index(before)]):
        if source.uri in known:
            return
        there = ", ".join(map(shown_uri, known))
        raise ImageherdError(
            f"{moved_from} is none of the sources that {herd} was made from; these are {there}."
        )
    if _has_images(source_from_uri(before)):
        raise ImageherdError(
            f"{moved_from} still holds images, so it has not moved. To have both in {herd} say "
            "nothing of a move."
        )
    old = known.index(before)
    known[old] = source.uri
    if source.uri in known[:old] + known[old + 1 :]:
        new = next(i for i, uri in enumerate(known) if uri == source.uri and i != old)
        table = items.table()
        ours = pc.and_(pc.equal(table["source"], new), pc.not_equal(table["status"], DELETED))
        for row in table["row"].filter(ours).to_pylist():
            items.change(row, status=DELETED, reason="the same image has a row of its old source")
        # Before the sources: a run killed in between finds everything still to be done.
        items.save()
        known[new] = before
    write_json(herd / FILE, project)


def warn_of_gone_sources(herd: Path, items: Items, source: Listed) -> None:
    """Warn of other sources than `source` that have images but are no longer there."""
    known = sources_of(herd)
    for other, n in zip(known, _live(items, len(known)), strict=True):
        if n and other.uri != source.uri and not other.is_there():
            where = shown_uri(other.uri)
            warnings.warn(
                f"{where} is no longer there; its images, {n:,} of them, stay in the herd. If it "
                f"has moved: imageherd embed NEW --herd {herd} --moved-from {where}",
                stacklevel=1,
            )


def _uri_of(where: str | Path, known: list[str]) -> str | None:
    """Return the known URI of what is or was there: what is gone no longer tells its kind."""
    text = os.fspath(where)
    there = (display_path(os.fsencode(os.path.abspath(text))), text)  # noqa: PTH100
    return next((uri for uri in known if shown_uri(uri) in there), None)


def _live(items: Items, n_sources: int) -> list[int]:
    table = items.table()
    live = table["source"].filter(pc.not_equal(table["status"], DELETED)).to_numpy()
    counts: list[int] = np.bincount(live, minlength=n_sources).tolist()
    return counts


def _has_images(source: Source) -> bool:
    try:
        return bool(source.scan())
    except ImageherdError:
        return False
