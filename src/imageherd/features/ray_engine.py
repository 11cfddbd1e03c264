"""Embedding on many machines, on Ray Data: a shard is the task, an actor holds the model.

An actor reads, decodes and embeds a shard whole, with the function that the engine of one process
uses, and sends back vectors and what became of each image: preprocessed it takes 600 kB, of which a
link of 10 Gb/s from machines that decode to those that compute would carry 2,000 a second. This
process alone writes: it takes the shards in their order and records each as if it had embedded it.
So nothing is lost or doubled whatever becomes of a worker, workers need no right to write, and a
killed run is taken up as ever.
"""

from __future__ import annotations

import gc
import math
import os
import socket
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imageherd.backbones.spec import parse_spec
from imageherd.errors import ImageherdError
from imageherd.features.precision import stored_as, stored_dtype
from imageherd.features.ray_cluster import connected
from imageherd.features.reading import Job, Read
from imageherd.features.store import TOP5_DTYPE
from imageherd.features.task import Embedded, EmbedShard, Engine, Work, embed_rows, read_ahead
from imageherd.features.writer import Block
from imageherd.images.names import display_path
from imageherd.images.source import Source, shown_uri, source_from_uri
from imageherd.progress import Advance

if TYPE_CHECKING:
    from imageherd.backbones import Backbone

CORES_AN_ACTOR = 4
RETRIES = 3
"""How often a shard is tried again after its worker died or failed."""

_KNOWN = -1

# A shard is one row, which Ray does not divide.
_TASK = pa.schema(
    [
        ("row", pa.list_(pa.int64())),
        ("key", pa.list_(pa.binary())),
        ("content_hash", pa.list_(pa.string())),
    ]
)
_RESULT = pa.schema(
    [
        ("row", pa.list_(pa.int64())),
        ("content_hash", pa.list_(pa.string())),
        ("reason", pa.list_(pa.string())),
        ("width", pa.list_(pa.int32())),
        ("height", pa.list_(pa.int32())),
        ("taken_at", pa.list_(pa.string())),
        ("not_finite", pa.list_(pa.int64())),
        ("embedded", pa.list_(pa.int64())),
        ("features", pa.large_binary()),
        ("top5", pa.large_binary()),
        ("error", pa.string()),
    ]
)
_FACTS = ("content_hash", "reason", "width", "height", "taken_at")


@dataclass(frozen=True)
class RayEngine:
    """Ray Data as the engine of `imageherd.herd.Herd.embed`.

    Parameters
    ----------
    address : str, optional
        Of an existing cluster: "auto", "10.0.0.1:6379". By default Ray runs on this machine's
        cores, for as long as it takes.
    actors : int, optional
        How many processes hold the model; by default as many as the cluster has room for.

    Notes
    -----
    Every machine needs the same imageherd, and the source and the backbone at the same place. An
    actor takes one GPU where the cluster has any, and `workers` cores, 4 by default. Results are
    those of the local engine, to the byte where the processors and libraries are alike. Content
    that two shards under way share goes through the model twice, with the same result. Memory of
    this process: two shards, of 4,096 × d numbers each; vectors that wait for an earlier shard stay
    with Ray, in shared memory and on disk.
    """

    address: str | None = None
    actors: int | None = None

    def of(self, backbone: str, device: str = "auto") -> Engine:
        """Return the engine for a backbone, by the name that loads it on every machine."""
        return partial(_on_ray, self, backbone, device)


class _Embedder:
    """An actor: the source and the model, opened once."""

    def __init__(
        self, uri: str, backbone: str, device: str, dtype: str, key: str, cores: int, known: Any
    ) -> None:
        # What counts the cores for its threads is to count those that Ray gives to this actor.
        os.environ["LOKY_MAX_CPU_COUNT"] = str(cores)
        import ray

        self.cores, self.known, self.error = cores, ray.get(known), ""
        try:
            self.source, self.backbone = _opened(uri, backbone, device, dtype, key)
        except ImageherdError as error:
            # Raised here it would reach the user as the text of a traceback.
            self.error = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Embed the images of each shard of a table, of which it has one."""
        return pa.Table.from_pylist([self._embed(shard) for shard in table.to_pylist()], _RESULT)

    def _embed(self, shard: dict[str, Any]) -> dict[str, Any]:
        if self.error:
            return {"error": self.error}
        columns = (shard["row"], shard["key"], shard["content_hash"])
        jobs = [
            Job(row, key, display_path(key), known)
            for row, key, known in zip(*columns, strict=True)
        ]
        rows = np.array(shard["row"])
        n, first = int(rows[-1] + 1 - rows[0]), int(rows[0])
        features = np.zeros((n, self.backbone.dim), "<f4")
        block = Block(0, first, features, None, np.ones(n, bool), changed=False)
        contents = _Contents(self.known)
        with closing(read_ahead(self.source, self.backbone, contents, jobs, self.cores)) as reads:
            found = embed_rows(jobs, reads, self.backbone, block, contents, lambda n: None)
        rows = rows[~block.missing[rows - first]]
        return {name: [getattr(read, name) for read in found.reads] for name in _FACTS} | {
            "row": shard["row"],
            "not_finite": found.not_finite,
            "embedded": rows,
            "features": block.features[rows - first].tobytes(),
            "top5": None if block.top5 is None else block.top5[rows - first].tobytes(),
        }


def _opened(uri: str, backbone: str, device: str, dtype: str, key: str) -> tuple[Source, Backbone]:
    """Open the source and the model on a worker, and see that they are those of the driver."""
    from imageherd.backbones import load_backbone

    source = source_from_uri(uri)
    if not source.is_there():
        raise ImageherdError(
            f"{shown_uri(uri)} is not there on {socket.gethostname()}, a machine of the cluster; "
            "put the images where every machine finds them at the same path."
        )
    net = stored_as(load_backbone(backbone, device=device), dtype)
    if net.key != key:
        raise ImageherdError(
            f"{backbone} is another network on {socket.gethostname()}: {net.key} there, {key} "
            "here. Install the same imageherd and models on every machine."
        )
    return source, net


class _Contents(dict[str, int]):
    """The rows of the contents of a shard; the herd's known ones, by their sorted digests."""

    def __init__(self, known: NDArray[np.bytes_]) -> None:
        super().__init__()
        self._known = known

    def __contains__(self, content_hash: object) -> bool:
        return super().__contains__(content_hash) or self._is_known(str(content_hash))

    def setdefault(self, content_hash: str, row: int = _KNOWN) -> int:
        """Return the row with this content, -1 for one that the herd knows."""
        return _KNOWN if self._is_known(content_hash) else super().setdefault(content_hash, row)

    def _is_known(self, content_hash: str) -> bool:
        digest = np.array(bytes.fromhex(content_hash), self._known.dtype)
        at = int(np.searchsorted(self._known, digest))
        return at < len(self._known) and bool(self._known[at] == digest)


@contextmanager
def _on_ray(engine: RayEngine, backbone: str, device: str, work: Work) -> Iterator[EmbedShard]:
    """Open the engine; see `imageherd.features.task`."""
    with connected(engine.address) as ray, _settings(ray):
        # Ray Data holds the actors of an earlier run of this process, and so their cores, in cycles
        # of references: until they are collected there is no room for those of this one.
        gc.collect()
        shards = _results(ray, engine, backbone, device, work)

        def embed(jobs: list[Job], block: Block, advance: Advance) -> Embedded:
            with _errors_of_workers(ray):
                found = _received(next(shards), jobs, block)
            advance(len(jobs))
            return found

        with closing(shards):
            yield embed


@contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Ray Data as this engine needs it: results in order, failures tried again, no bars."""
    settings = ray.data.DataContext.get_current().copy()
    settings.execution_options.preserve_order = True
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False
    settings.retried_map_errors, settings.max_map_retries = True, RETRIES
    settings.raise_original_map_exception = True
    # A shard of a large model on a slow machine takes as long as it takes.
    settings.execution_no_progress_timeout_s = -1
    with ray.data.DataContext.current(settings):
        yield


def _results(
    ray: Any, engine: RayEngine, backbone: str, device: str, work: Work
) -> Generator[dict[str, Any], None, None]:
    """Yield what the actors found, shard by shard in their order."""
    tasks = [ray.put(_task(jobs)) for jobs in work.shards()]
    known = work.contents.digests()
    gpus, cores, room = _room(ray.nodes(), device, work.workers)
    dataset = ray.data.from_arrow_refs(tasks).map_batches(
        _Embedder,
        fn_constructor_args=(
            work.source.uri,
            _absolute(backbone),
            device,
            stored_dtype(work.backbone.identity),
            work.backbone.key,
            cores,
            ray.put(known),
        ),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=min(engine.actors or room, len(tasks)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=cores,
        num_gpus=gpus,
        max_task_retries=RETRIES,
    )
    # Fetched ahead, a shard would wait for the next one before it is written.
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from table.to_pylist()


def _task(jobs: list[Job]) -> pa.Table:
    shard = {
        "row": [job.row for job in jobs],
        "key": [job.key for job in jobs],
        "content_hash": [job.content_hash for job in jobs],
    }
    return pa.Table.from_pylist([shard], _TASK)


def _received(shard: dict[str, Any], jobs: list[Job], block: Block) -> Embedded:
    """Fill a block with what an actor sent."""
    if shard["error"]:
        raise ImageherdError(shard["error"])
    if shard["row"] != [job.row for job in jobs]:
        raise RuntimeError(f"Ray gave the shard of row {shard['row'][0]}, not of {jobs[0].row}")
    rows = shard["embedded"]
    dim = block.features.shape[1]
    features = np.frombuffer(shard["features"], "<f4").reshape(len(rows), dim)
    top5 = None if shard["top5"] is None else np.frombuffer(shard["top5"], TOP5_DTYPE)
    for at, row in enumerate(rows):
        block.put(row, features[at], None if top5 is None else top5[at])
    facts = (shard[name] for name in _FACTS)
    reads = [
        Read(content_hash, reason, None, width, height, taken_at)
        for content_hash, reason, width, height, taken_at in zip(*facts, strict=True)
    ]
    return Embedded(reads, shard["not_finite"])


def _room(nodes: list[dict[str, Any]], device: str, workers: int | None) -> tuple[int, int, int]:
    """Return GPUs and cores an actor, and how many actors the cluster has room for.

    Raises
    ------
    ImageherdError
        If a GPU was asked for and no machine has one, or none has so many cores.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    machines = [m for m in machines if m.get("CPU")]
    with_gpu = [m for m in machines if m.get("GPU")]
    gpus = 0
    if device == "cuda" or (device == "auto" and with_gpu):
        machines, gpus = with_gpu, 1
    elif device not in ("auto", "cpu"):
        raise ImageherdError(f"--device {device} does not go with --engine ray; give cpu or cuda.")
    if not machines:
        raise ImageherdError("No machine of the cluster has a GPU; use --device cpu.")
    share = min(int(m["CPU"] // (m["GPU"] if gpus else 1)) for m in machines)
    cores = workers or max(1, share if gpus else min(share, CORES_AN_ACTOR))
    room = sum(int(min(m["CPU"] // cores, m["GPU"] if gpus else math.inf)) for m in machines)
    if not room:
        most = int(max(m["CPU"] for m in machines))
        raise ImageherdError(
            f"--workers {cores} asks for as many cores for each actor, and no machine of the "
            f"cluster has more than {most}; ask for fewer."
        )
    return gpus, cores, room


def _absolute(backbone: str) -> str:
    """Name a backbone in a file or folder by a path that does not depend on where it is read."""
    spec = parse_spec(backbone)
    path = Path(spec.model).expanduser()
    return spec._replace(model=os.path.abspath(path)).name if path.exists() else backbone  # noqa: PTH100


@contextmanager
def _errors_of_workers(ray: Any) -> Iterator[None]:
    """Turn what went wrong on a worker into an error that says so."""
    try:
        yield
    except ray.exceptions.RayActorError as error:
        if error.actor_init_failed:
            last = str(error).strip().splitlines()[-1]
            raise ImageherdError(
                f"The workers could not start; is the same imageherd on every machine? {last}"
            ) from error
        raise ImageherdError(
            f"Worker after worker died at one of the shards, {RETRIES + 1} in all: out of memory, "
            "perhaps, or of an image that ends whatever decodes it. Try fewer --actors or "
            "--workers, or --engine local. What was written so far is kept."
        ) from error
