"""From a source to a feature set: read, hash, decode and preprocess in threads, then the model.

Rows go shard by shard in row order. Within a shard, the images that need the model are batched in
row order into the backbone's fixed batch size and the last batch is padded, so what a batch holds
depends on the rows alone, not on threads, timing or interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.cores import usable_cores
from imageherd.errors import ImageherdError
from imageherd.features.items import DELETED, OK, PENDING, UNREADABLE, Items
from imageherd.features.known import RowOfContent
from imageherd.features.reading import Job, Read
from imageherd.features.register import register
from imageherd.features.task import Embedded, EmbedShard, Engine, Work, changed, here
from imageherd.features.writer import Block, Writer
from imageherd.progress import Advance, progress

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.images.source import Source

CHANGED = "changed while it was being read; the next run takes it up"
NOT_FINITE = "the backbone's features of it are not finite numbers"

_FACTS = ("width", "height", "taken_at")


@dataclass
class EmbedSummary:
    """What a run did.

    Attributes
    ----------
    n_images : int
        Images in the source now.
    n_embedded : int
        Images this run put through the model.
    n_copied : int
        Images whose vector this run copied from one with the same content.
    n_unreadable : int
        Images of the source that have no vector, as in `reasons`.
    n_deleted : int
        Images this run found gone from the source.
    seconds : float
        Wall-clock time, without the views'.
    n_views : int
        Augmented views this run computed.
    reasons : list of (str, str)
        Display path and reason of each image of the source without a vector, in row order.
    """

    n_images: int = 0
    n_embedded: int = 0
    n_copied: int = 0
    n_unreadable: int = 0
    n_deleted: int = 0
    seconds: float = 0.0
    n_views: int = 0
    reasons: list[tuple[str, str]] = field(default_factory=list)


def embed_source(
    items: Items,
    source: Source,
    source_index: int,
    backbone: Backbone,
    feature_set_folder: Path | str,
    *,
    workers: int | None = None,
    engine: Engine = here,
) -> EmbedSummary:
    """Bring the items of a source up to date and embed those that have no vector yet.

    Killed at any moment and run again, it redoes at most the shard in hand and ends with the same
    bytes in every file as a run that was not interrupted. The herd's lock must be held.

    Parameters
    ----------
    items : Items
        The herd's items; changed and saved.
    source : Source
        Where the images are.
    source_index : int
        The source's number within the herd.
    backbone : Backbone
        What turns pixels into features.
    feature_set_folder : Path
        Where this backbone's shards go.
    workers : int, optional
        Threads that read and decode; by default one for each core this process may use.
    engine : Engine, default=here
        What runs the model: this process, or `imageherd.features.ray_engine.RayEngine`.

    Returns
    -------
    EmbedSummary

    Raises
    ------
    ImageherdError
        If the disk is full, the folder holds other features, or a shard on disk is damaged.
    """
    started = time.perf_counter()
    registration = register(items, source, source_index, workers=workers or usable_cores())
    writer = Writer(Path(feature_set_folder), backbone, items.part_rows)
    summary = EmbedSummary(n_images=registration.n_images, n_deleted=registration.n_deleted)
    run = _Run(items, source_index, writer, summary)
    todo = run.todo(registration.retry)
    shards = [
        i for i, rows in enumerate(todo) if len(rows) or writer.rows_of(i) != run.shard_rows(i)
    ]
    total = sum(len(rows) for rows in todo)

    def jobs() -> Iterator[list[Job]]:
        return (run.jobs(i, todo[i].tolist()) for i in shards if len(todo[i]))

    work = Work(source, backbone, run.row_of_content, jobs, workers)
    with (
        engine(work) if total else nullcontext(_nothing) as embed,
        progress("Embedding", total, "images") as advance,
    ):
        for index in shards:
            run.embed_shard(index, todo[index].tolist(), embed, advance)
    summary.reasons = run.reasons()
    summary.n_unreadable = len(summary.reasons)
    summary.seconds = time.perf_counter() - started
    return summary


class _Run:
    """One run over one source: what is shared from shard to shard."""

    def __init__(
        self, items: Items, source_index: int, writer: Writer, summary: EmbedSummary
    ) -> None:
        self.items, self.source_index = items, source_index
        self.writer, self.summary = writer, summary
        self.failed: dict[int, str] = {}
        if len(writer.present) > items.n_rows:
            raise ImageherdError(
                f"{writer.folder} has vectors for {len(writer.present)} rows, but {items.folder} "
                f"has {items.n_rows} rows: one of the two was replaced by an older copy."
            )
        # The lowest row, so that a resumed run copies from a row with the same bytes.
        self.row_of_content = RowOfContent(items.table()["content_hash"], writer.present)

    def shard_rows(self, index: int) -> int:
        rows = self.items.part_rows
        return min(rows, self.items.n_rows - index * rows)

    def todo(self, retry: list[int]) -> list[NDArray[np.int64]]:
        """Return, for each shard, the rows of this source that lack a vector they could have."""
        table = self.items.table()
        present = np.zeros(len(table), bool)
        present[: len(self.writer.present)] = self.writer.present
        ok = pc.equal(table["status"], OK).to_numpy()
        wanted = pc.equal(table["status"], PENDING).to_numpy() | (ok & ~present)
        wanted &= table["source"].to_numpy() == self.source_index
        wanted[retry] = True
        size = self.items.part_rows
        return [
            np.flatnonzero(wanted[start : start + size]) + start
            for start in range(0, len(wanted), size)
        ]

    def jobs(self, index: int, rows: list[int]) -> list[Job]:
        part = self.items.part(index)
        items = (part[row - index * self.items.part_rows] for row in rows)
        return [Job(i["row"], i["key"], i["path"], i["content_hash"]) for i in items]

    def embed_shard(self, index: int, rows: list[int], embed: EmbedShard, advance: Advance) -> None:
        block = self.writer.open_block(index, self.shard_rows(index))
        if rows:
            jobs = self.jobs(index, rows)
            self._record(block, jobs, embed(jobs, block, advance))
        if block.changed:
            self.writer.commit(block, self.items.save)
        else:
            self.items.save()

    def _record(self, block: Block, jobs: list[Job], embedded: Embedded) -> None:
        """Note what became of a shard's images, and copy the vectors of those seen before."""
        part = self.items.part(block.index)
        copies: list[tuple[int, int]] = []
        for job, read in zip(jobs, embedded.reads, strict=True):
            item = part[job.row - block.first]
            if not self._readable(job, item, read):
                continue
            assert read.content_hash is not None
            original = self.row_of_content.setdefault(read.content_hash, job.row)
            self._accept(item, read, original)
            if original == job.row:
                self.summary.n_embedded += 1
            else:
                copies.append((job.row, original))
        self.failed.update(dict.fromkeys(embedded.not_finite, NOT_FINITE))
        self._copy(block, copies)

    def _readable(self, job: Job, item: dict[str, Any], read: Read) -> bool:
        """Whether there is a picture of the row's own content; if not, say why."""
        row = job.row
        if changed(job, read):
            # The row's vectors stand for other content: let the next scan look at the file again.
            self.items.change(row, mtime_ns=-1)
            self.failed[row] = CHANGED
        elif read.reason:
            self.failed[row] = read.reason
            if item["status"] != OK:
                self.items.change(
                    row,
                    status=UNREADABLE,
                    reason=read.reason,
                    content_hash=read.content_hash,
                )
        return row not in self.failed

    def _accept(self, item: dict[str, Any], read: Read, original: int) -> None:
        if item["status"] == OK:
            return
        if read.width is not None:
            facts = {name: getattr(read, name) for name in _FACTS}
        else:
            seen = self.items.get(original)
            facts = {name: seen[name] for name in _FACTS}
        hashed = {"content_hash": read.content_hash}
        self.items.change(item["row"], status=OK, reason="", **hashed, **facts)

    def _copy(self, block: Block, copies: list[tuple[int, int]]) -> None:
        for row, original in copies:
            vector = block.get(original) or self.writer.get(original)
            if vector is None:
                self.failed[row] = NOT_FINITE
                continue
            block.put(row, *vector)
            self.summary.n_copied += 1

    def reasons(self) -> list[tuple[str, str]]:
        """Return path and reason of every live row of the source without a vector."""
        table = self.items.table()
        concerned = pc.equal(table["status"], UNREADABLE)
        if self.failed:
            rows = pa.array(list(self.failed), pa.int64())
            concerned = pc.or_(concerned, pc.is_in(table["row"], value_set=rows))
        concerned = pc.and_(concerned, pc.not_equal(table["status"], DELETED))
        concerned = pc.and_(concerned, pc.equal(table["source"], self.source_index))
        return [
            (item["path"], self.failed.get(item["row"]) or item["reason"])
            for item in table.select(["row", "path", "reason"]).filter(concerned).to_pylist()
        ]


def _nothing(jobs: list[Job], block: Block, advance: Advance) -> Embedded:
    return Embedded([], [])
