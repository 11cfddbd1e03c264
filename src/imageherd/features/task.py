"""A shard's images to its vectors: the task that every engine runs, and the engine of this process.

An engine is a function that takes a `Work` and opens, as a context manager, what embeds its shards
one after the other in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from imageherd.cores import usable_cores
from imageherd.features.batching import Batch
from imageherd.features.known import RowOfContent
from imageherd.features.prefetch import map_ahead
from imageherd.features.reading import Job, Read, read_image
from imageherd.features.writer import Block
from imageherd.progress import Advance

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.images.source import Source

# Preprocessed images that may wait for the model, in bytes: the bound on the pipeline's memory.
_AHEAD_BYTES = 512 * 2**20


class Contents(Protocol):
    """Which contents have a vector, and in which row; see `RowOfContent`."""

    def __contains__(self, content_hash: object) -> bool: ...

    def setdefault(self, content_hash: str, row: int) -> int:
        """Return the row with this content; if there is none, `row`, which has it from now on."""
        ...


class Embedded(NamedTuple):
    """What became of a shard's images; the vectors are in its block.

    Attributes
    ----------
    reads : list of Read
        One a job, in their order, without pixels.
    not_finite : list of int
        Rows whose features were not finite numbers.
    """

    reads: list[Read]
    not_finite: list[int]


EmbedShard = Callable[[list[Job], Block, Advance], Embedded]


@dataclass(frozen=True)
class Work:
    """What a run has to embed.

    Attributes
    ----------
    source : Source
        Where the images are.
    backbone : Backbone
        What turns pixels into features.
    contents : RowOfContent
        The row of each content that has a vector.
    shards : callable
        Yields each shard's images, in row order; shards without any are left out.
    workers : int or None
        Threads that read and decode, as asked for.
    """

    source: Source
    backbone: Backbone
    contents: RowOfContent
    shards: Callable[[], Iterator[list[Job]]]
    workers: int | None


Engine = Callable[[Work], AbstractContextManager[EmbedShard]]


@contextmanager
def here(work: Work) -> Iterator[EmbedShard]:
    """Embed in this process: threads read ahead, across shards, and the model runs in this one."""
    jobs = (job for shard in work.shards() for job in shard)
    workers = work.workers or usable_cores()
    with closing(read_ahead(work.source, work.backbone, work.contents, jobs, workers)) as reads:

        def embed(jobs: list[Job], block: Block, advance: Advance) -> Embedded:
            return embed_rows(jobs, reads, work.backbone, block, work.contents, advance)

        yield embed


def read_ahead(
    source: Source, backbone: Backbone, known: Contents, jobs: Iterable[Job], workers: int
) -> Generator[Read, None, None]:
    """Read images in threads, in order, as far ahead of the model as its next two batches."""
    image_bytes = 3 * 4 * backbone.preprocessing.size**2
    # Two batches ahead: while the model has one, the next is complete and the one after begun.
    ahead = max(workers + 1, min(2 * backbone.batch_size + workers, _AHEAD_BYTES // image_bytes))

    def read(job: Job) -> Read:
        return read_image(source, job, backbone, known)

    return map_ahead(read, jobs, workers=workers, ahead=ahead)


def embed_rows(
    jobs: list[Job],
    reads: Iterator[Read],
    backbone: Backbone,
    block: Block,
    contents: Contents,
    advance: Advance,
) -> Embedded:
    """Put the images of a shard through the model, each content once.

    Parameters
    ----------
    jobs : list of Job
        The images, in row order.
    reads : iterator of Read
        What reading them came to; as many are taken as there are jobs.
    backbone : Backbone
        The model. Batches are of its fixed size, the last padded.
    block : Block
        Gets the vectors, but for those of contents known already.
    contents : Contents
        The row of each content; gets the new ones.
    advance : callable
        Told how many images are done.
    """
    batch = Batch(backbone, block)
    found = []
    for job in jobs:
        read = next(reads)
        done = 1
        if not (read.reason or changed(job, read)):
            assert read.content_hash is not None
            if contents.setdefault(read.content_hash, job.row) == job.row:
                assert read.pixels is not None
                done = batch.add(job.row, read.pixels)
        advance(done)
        found.append(replace(read, pixels=None))
    advance(batch.flush())
    return Embedded(found, batch.not_finite)


def changed(job: Job, read: Read) -> bool:
    """Whether the file now holds other content than the row stands for."""
    return job.content_hash is not None and read.content_hash not in (job.content_hash, None)
