"""What to call clusters, with a CLIP model: their images vote for texts (CPP, algorithm 2).

The released code weighs the votes otherwise than the paper says: by the softmax of 100 times the
cosine, over all candidates. That is ``weights="softmax"``.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imageherd.backbones import Backbone, load_backbone
from imageherd.candidates import PROMPT, kept_text_features, read_texts
from imageherd.clustering import NOWHERE, Clustering, by_centrality, with_names
from imageherd.derived import Features, feature_keys, feature_set, naming_of, voted_names
from imageherd.errors import ImageherdError
from imageherd.features.precision import DTYPES, stored_as
from imageherd.features.reading import Job, read_image
from imageherd.naming import ClusterName, vote_names
from imageherd.progress import progress
from imageherd.sources import sources_of
from imageherd.versions import extending, versions_of

PROTOTYPES = 32
WEIGHTS = ("cosine", "softmax")
TOP = 5
# Cosines held at a time: 64 MiB.
CELLS = 2**24

Vectors = NDArray[np.float32]


def name_anew(
    herd: Path,
    clustering: Clustering,
    data: Features,
    items: pa.Table,
    *,
    clip: str | None = None,
    texts: str = "imagenet",
    prompt: str = PROMPT,
    prototypes: int = PROTOTYPES,
    weights: str = "cosine",
    device: str = "auto",
) -> Clustering:
    """Let a clustering's images vote on its names anew, and keep that as its next version.

    Names given by a person stay what they are. Where the herd has features of this very model, all
    images vote, at the cost of reading them; else the prototypes of each cluster alone are put
    through the model. Texts go through it once: their vectors are kept in the herd. The herd's lock
    must be held.

    Parameters
    ----------
    herd : Path
        The herd.
    clustering : Clustering
        One of the herd's.
    data : Features
        What it was made on; who is most typical of a cluster is measured in these.
    items : pyarrow.Table
        The herd's items.
    clip : str, optional
        Any CLIP or SigLIP model that transformers loads, by hub name or folder. Without one the
        bundled classifier's ImageNet classes are voted for, as they were when the clusters were
        made.
    texts : str, default="imagenet"
        The candidates; see `imageherd.candidates.read_texts`.
    prompt : str, default="a photo of a {}"
        What the model reads: "{}" stands for the candidate.
    prototypes : int, default=32
        Images of a cluster that vote where the herd has no features of the model: those most
        similar to all its members. Costs their number times the clusters' in passes of the model.
    weights : {"cosine", "softmax"}, default="cosine"
        What an image adds to its five best texts: the cosine similarity, as the paper has it, or
        the softmax over all candidates of 100 times that, as the released code does.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where the model runs.

    Raises
    ------
    ImageherdError
        If the model reads no texts, an argument cannot be, there is nothing to vote with, or none
        of the images can be read.
    """
    _, at, there = np.intersect1d(clustering.rows, data.rows, return_indices=True)
    data, uids = replace(data, rows=data.rows[there]), clustering.uids[at]
    config = {key: value for key, value in clustering.config.items() if key != "naming"}
    if clip is None:
        names, config = voted_names(herd, data, uids), config | naming_of(data)
        if not names:
            raise ImageherdError(
                f"No features in {herd} come from a classifier, so there is nothing to vote with; "
                "name a CLIP model, or embed with efficientnet-lite0 too."
            )
    else:
        vote = (clip, texts, prompt, prototypes, weights, device)
        names, config["naming"] = _clip_names(herd, data, uids, items, *vote)
    versions = versions_of(herd, clustering.name)
    named = extending(with_names(replace(clustering, config=config), names), clustering)
    history = versions.folder / clustering.version / "history.parquet"
    epochs = pq.read_table(history).to_pylist() if history.is_file() else []
    return versions.write(named, versions.head(clustering.version, device="cpu"), epochs)


def _clip_names(
    herd: Path,
    data: Features,
    uids: NDArray[np.int32],
    items: pa.Table,
    clip: str,
    texts: str,
    prompt: str,
    prototypes: int,
    weights: str,
    device: str,
) -> tuple[dict[int, ClusterName], dict[str, Any]]:
    if weights not in WEIGHTS:
        raise ImageherdError(f"weights={weights!r} is not known; choose {' or '.join(WEIGHTS)}.")
    if prototypes < 1:
        raise ImageherdError(f"prototypes={prototypes} cannot vote; give 1 or more.")
    candidates = read_texts(texts)
    backbone = load_backbone(clip, device=device)
    vectors = kept_text_features(herd, backbone, candidates, prompt)
    images: Iterable[Vectors]
    rows = data.rows
    kept, known = [stored_as(backbone, dtype).key for dtype in DTYPES], feature_keys(herd)
    stores = [feature_set(herd, key) for key in kept if key in known]
    of_all = [store for store in stores if np.isin(rows, store.rows_present()).all()]
    if of_all:
        images = (block for _, block in of_all[0].blocks(rows))
    else:
        at = typical(data.X, uids, prototypes)
        readable, embedded = embed_rows(herd, items, rows[at], backbone)
        if not len(readable):
            raise ImageherdError(
                f"None of the {len(at)} images that were to vote can be read; see whether the "
                "folder has moved (`imageherd embed NEW --moved-from OLD`)."
            )
        rows, uids, images = rows[at][readable], uids[at][readable], [embedded]
    best, cast = zip(
        *(best_texts(block, vectors, weights=weights) for block in images), strict=True
    )
    votes = (np.concatenate(best), np.concatenate(cast))
    settings = {
        **{"by": backbone.key, "texts": texts, "prompt": prompt, "weights": weights},
        "images": "all" if of_all else f"{prototypes} a cluster",
    }
    return vote_names(*votes, uids, candidates, rows=rows), settings


def best_texts(
    images: Vectors, texts: Vectors, *, weights: str = "cosine", top: int = TOP
) -> tuple[NDArray[np.int64], Vectors]:
    """Find the best texts of each image and what it adds to them (algorithm 2, equations 8 to 10).

    Time O(n m d), memory 64 MiB beside the arguments and the result.

    Parameters
    ----------
    images : ndarray, shape (n, d)
        Features of images; need not be normalised.
    texts : ndarray, shape (m, d)
        Features of texts, in the same space.
    weights : {"cosine", "softmax"}, default="cosine"
        See `name_anew`.
    top : int, default=5
        Texts an image votes for; all, where there are fewer.

    Returns
    -------
    best : ndarray of int64, shape (n, top)
        Positions in `texts`, best first; of equal ones the first.
    weights : ndarray of float32, shape (n, top)
        What the image adds to each.
    """
    images, texts = _normalised(images), _normalised(texts)
    top = min(top, len(texts))
    best = np.empty((len(images), top), dtype=np.int64)
    cast = np.empty((len(images), top), dtype=np.float32)
    step = max(1, CELLS // len(texts))
    for start in range(0, len(images), step):
        cosines = images[start : start + step] @ texts.T
        rows, each = slice(start, start + len(cosines)), np.arange(len(cosines))
        if weights == "softmax":
            # The best first, lest the exponentials of others count for nothing.
            shifted = np.exp(100 * (cosines - cosines.max(1, keepdims=True)))
            total = shifted.sum(1)
        for place in range(top):
            best[rows, place] = cosines.argmax(1)
            cast[rows, place] = cosines[each, best[rows, place]]
            if weights == "softmax":
                cast[rows, place] = shifted[each, best[rows, place]] / total
            cosines[each, best[rows, place]] = -np.inf
    return best, cast


def typical(X: Vectors, uids: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Return the positions of the `n` most central members of each cluster, ascending.

    Parameters
    ----------
    X : ndarray, shape (n_images, d)
        Features.
    uids : ndarray of int, shape (n_images,)
        Clusters; -1 for none.
    n : int
        How many of each; all of a smaller one.
    """
    placed = np.flatnonzero(uids != NOWHERE)
    known, labels = np.unique(uids[placed], return_inverse=True)
    central = by_centrality(X[placed], labels.astype(np.int64), len(known))
    return np.sort(np.concatenate([placed[members[:n]] for members in central]))


def embed_rows(
    herd: Path, items: pa.Table, rows: NDArray[np.int64], backbone: Backbone
) -> tuple[NDArray[np.int64], Vectors]:
    """Put some of a herd's images through a model, without keeping the result.

    Parameters
    ----------
    herd : Path
        The herd.
    items : pyarrow.Table
        Its items.
    rows : ndarray of int64, shape (n,)
        Which of them.
    backbone : Backbone
        The model.

    Returns
    -------
    readable : ndarray of int64, shape (m,)
        Positions in `rows` of the images that could be read.
    features : ndarray of float32, shape (m, d)
    """
    sources = sources_of(herd)
    listed = items.select(["source", "key", "path"]).take(pa.array(rows)).to_pylist()

    def pixels_of(i: int) -> NDArray[np.float32] | None:
        item = listed[i]
        job = Job(int(rows[i]), item["key"], item["path"])
        return read_image(sources[item["source"]], job, backbone, ()).pixels

    readable: list[int] = []
    blocks = [np.empty((0, backbone.dim), dtype=np.float32)]
    with ThreadPoolExecutor() as pool, progress("Prototypes", len(rows)) as advance:
        for start in range(0, len(rows), backbone.batch_size):
            batch = range(start, min(start + backbone.batch_size, len(rows)))
            read = zip(batch, pool.map(pixels_of, batch), strict=True)
            seen = {i: pixels for i, pixels in read if pixels is not None}
            if seen:
                readable += seen
                blocks.append(backbone.embed(np.stack(list(seen.values())))["features"])
            advance(len(batch))
    return np.array(readable, dtype=np.int64), np.concatenate(blocks)


def _normalised(X: Vectors) -> Vectors:
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    found: Vectors = (X / np.where(norms == 0, 1, norms)).astype(np.float32)
    return found
