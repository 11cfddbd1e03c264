"""How well a clustering agrees with labels that a person has."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imageherd.clustering import NOWHERE, Clustering, by_cluster
from imageherd.columns import labels_in_column
from imageherd.derived import Features
from imageherd.errors import ImageherdError
from imageherd.features.store import FeatureSet
from imageherd.heads.base import Head
from imageherd.metrics import confusion, mean_entropies, neighbor_consistency, scores
from imageherd.neighbors import NeighborGraph

N_NEIGHBORS = 20

_COLUMN = "column:"


@dataclass(frozen=True)
class Evaluation:
    """Agreement of a clustering with labels.

    Attributes
    ----------
    scores : dict
        ACC, NMI, ARI and AMI over the labelled and placed images.
    confusion : ndarray of int, shape (n_classes, n_clusters)
        Images of each class in each cluster, clusters in the order of their matched classes.
    classes, clusters : list of str
        Names of its rows and columns.
    consistency : dict
        Share of an image's nearest images, up to 20, that are in its cluster ("clusters") and that
        have its label ("labels"), mean over the images scored.
    entropies : dict
        Nats: "clusters", H(q(c)), how even they are; "images", mean H(q(c|x)), how unsure the head
        is of an image; "most", what either can be at most.
    n_images, n_unlabelled, n_nowhere : int
        Images scored; left out for want of a label; left out since they fit nowhere.
    """

    scores: dict[str, float]
    confusion: NDArray[np.int64]
    classes: list[str]
    clusters: list[str]
    consistency: dict[str, float]
    entropies: dict[str, float]
    n_images: int
    n_unlabelled: int
    n_nowhere: int


def labels_of(labels: str | Path, items: pa.Table, herd: Path) -> list[str | None]:
    """Find the label of each item.

    Parameters
    ----------
    labels : str or Path
        "column:NAME" for what the items' sources say of them in a column; see
        `imageherd.columns.labels_in_column`. Anything else as in `read_labels`.
    items : pyarrow.Table
        Items of the herd.
    herd : Path
        The herd.

    Returns
    -------
    list of str or None
        None where there is no label.
    """
    column = str(labels).removeprefix(_COLUMN)
    if column != str(labels):
        return labels_in_column(herd, items, column)
    return read_labels(labels, items["path"].to_pylist())


def read_labels(labels: str | Path, paths: list[str]) -> list[str | None]:
    """Find the label of each path.

    Parameters
    ----------
    labels : str or Path
        "folder" for the name of the folder an image lies in, or a CSV file with the columns path
        and label. A path there may be as the herd shows it or the file's name alone, where that
        is not ambiguous.
    paths : list of str
        Display paths of the images.

    Returns
    -------
    list of str or None
        None where there is no label.

    Raises
    ------
    ImageherdError
        If the file cannot be read, lacks a column, or labels none of the images.
    """
    if str(labels) == "folder":
        found: list[str | None] = [PurePosixPath(path).parent.name or None for path in paths]
        where = "No image lies in a subfolder, so folders cannot be the labels; give a CSV"
    else:
        by_path = _read_csv(Path(labels))
        names = [PurePosixPath(path).name for path in paths]
        unique = {
            name for name, n in zip(*np.unique(names, return_counts=True), strict=True) if n == 1
        }
        found = [
            by_path.get(path, by_path.get(name) if name in unique else None)
            for path, name in zip(paths, names, strict=True)
        ]
        where = (
            f"{labels} labels none of the images: it says for example "
            f"{next(iter(by_path), 'nothing')!r}, the herd {paths[0]!r}; use those paths"
        )
    if not any(found):
        raise ImageherdError(f"{where} with the columns path and label.")
    return found


def _read_csv(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"path", "label"} - set(reader.fieldnames or [])
            if missing:
                raise ImageherdError(
                    f"{path} has no column {' and no column '.join(sorted(missing))}; its first "
                    "line must name the columns path and label."
                )
            labels = {row["path"]: row["label"] for row in reader if row["label"]}
    except OSError as error:
        raise ImageherdError(
            f"The labels {path} cannot be read: {error.strerror}. Give a CSV file with the columns "
            "path and label, or the word folder to take the folders' names."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageherdError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    if not labels:
        raise ImageherdError(f"{path} has no row with a label: its column label is empty.")
    return labels


def evaluate(
    clustering: Clustering,
    labels: list[str | None],
    store: FeatureSet,
    head: Head,
    neighbors: Callable[[Features], NeighborGraph],
) -> Evaluation:
    """Score a clustering against labels.

    Parameters
    ----------
    clustering : Clustering
        What to score; images that fit nowhere are left out.
    labels : list of str or None
        One for each of its images, None where it is not known: such images are left out.
    store : FeatureSet
        The features it was made on.
    head : Head
        The head that made it.
    neighbors : callable
        Gives the k-NN graph of features.

    Raises
    ------
    ImageherdError
        If nothing is left to score, or all of it has one label: that agrees with any clustering.
    """
    labelled = np.array([label is not None for label in labels])
    placed = clustering.uids != NOWHERE
    used = labelled & placed
    if not used.any():
        raise ImageherdError("None of the labelled images is in a cluster: nothing to evaluate.")
    true = np.array([label for label, use in zip(labels, used, strict=True) if use])
    predicted = clustering.uids[used]
    matrix, classes, uids = confusion(true, predicted)
    if len(classes) == 1:
        raise ImageherdError(
            f"All {used.sum():,} images with a label have the same one, {str(classes[0])!r}: "
            "that says nothing about the clusters. Give labels of at least two classes."
        )
    names = clustering.names()
    features = Features(clustering.rows[used], store.key, store)
    graph = neighbors(features)
    k = min(N_NEIGHBORS, graph.k)
    P = by_cluster(head.predict_proba(features.X), clustering.config["uids"])
    evenness, doubt = mean_entropies(P)
    return Evaluation(
        scores=scores(true, predicted),
        confusion=matrix,
        classes=[str(c) for c in classes],
        clusters=[names[int(uid)] for uid in uids],
        consistency={
            "clusters": neighbor_consistency(graph, predicted, k),
            "labels": neighbor_consistency(graph, true, k),
        },
        entropies={"clusters": evenness, "images": doubt, "most": float(np.log(P.shape[1]))},
        n_images=int(used.sum()),
        n_unlabelled=int((~labelled).sum()),
        n_nowhere=int((labelled & ~placed).sum()),
    )
