"""A herd on disk: what one project folder holds, and the only place that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd import export as export_module
from imageherd.assignment import Assignment, place
from imageherd.backbones import DEFAULT_BACKBONE
from imageherd.clip_naming import name_anew
from imageherd.clustering import Clustering
from imageherd.columns import columns_of
from imageherd.counting import Count, count_clusters
from imageherd.derived import N_NEIGHBORS, Features, feature_set, features_of, kept_graph, kept_map
from imageherd.edits.carrying import keep_new
from imageherd.edits.editing import Edits, edited
from imageherd.errors import ImageherdError
from imageherd.evaluation import Evaluation, evaluate, labels_of
from imageherd.features.estimate import estimate as estimate_embedding
from imageherd.features.items import OK, Items
from imageherd.features.listing import Listed
from imageherd.features.pipeline import EmbedSummary
from imageherd.features.ray_engine import RayEngine
from imageherd.fitting import fit
from imageherd.leftovers import remove_leftovers
from imageherd.makers import Maker, load_maker
from imageherd.merging import keep_merged
from imageherd.neighbors import NeighborGraph
from imageherd.project import another_feature_set, locked, read_project
from imageherd.report.figures import Figures, write_figures
from imageherd.search import search
from imageherd.search_space import Hits
from imageherd.sources import add_source, source_index, sources_of
from imageherd.versions import clustering_of, versions_of
from imageherd.warm_start import begin


class Herd:
    """A project folder: images known, features computed once, neighbors, clusterings, report.

    Parameters
    ----------
    path : str or Path
        The folder, by custom ``<name>.herd``; made by the first `embed`.

    Examples
    --------
    >>> herd = Herd("photos.herd")                          # doctest: +SKIP
    >>> herd.embed("photos/")                               # doctest: +SKIP
    >>> herd.cluster(n_clusters="auto").clusters[0].name    # doctest: +SKIP
    'sneaker'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._loaded: dict[tuple[str, ...], Maker] = {}

    # ---- what is in it

    @cached_property
    def _items(self) -> Items:
        return Items(self.path / "items")

    def items(self) -> pa.Table:
        """Return the table of all images ever seen, one row an image, in row order."""
        read_project(self.path)
        return self._items.table()

    def features(self, key: str | None = None) -> Features:
        """Return the features `key`, by default those embedded last, of the images still there."""
        return features_of(self.path, key or read_project(self.path)["features"], self._readable())

    def neighbors(
        self, features: Features | None = None, *, k: int = N_NEIGHBORS, **options: Any
    ) -> NeighborGraph:
        """Return the k-NN graph of `features` (all of the herd by default), computed once and kept.

        Parameters
        ----------
        features : Features, optional
            As returned by `features`.
        k : int, default=50
            Neighbors an image; fewer where there are fewer other images.
        **options
            `device` and `how`, as in `imageherd.derived.kept_graph`.
        """
        features = features or self.features()
        return kept_graph(self.path, features, min(k, len(features.rows) - 1), **options)

    # ---- embedding

    def embed(
        self,
        source: str | Path | Listed,
        *,
        backbone: str = DEFAULT_BACKBONE,
        device: str = "auto",
        workers: int | None = None,
        moved_from: str | Path | None = None,
        views: int = 0,
        engine: RayEngine | None = None,
        dtype: str = "float32",
    ) -> EmbedSummary:
        """Compute the features of the images of `source` that have none yet.

        Killed at any moment, the next call goes on where it stopped. Warns if another source that
        has images is no longer there.

        Parameters
        ----------
        source : str, Path or Listed
            What `imageherd.images.source.open_source` takes; becomes one of the herd's sources.
        backbone : str, default="efficientnet-lite0"
            See `imageherd.backbones.load_backbone`.
        device : str, default="auto"
            Where the backbone runs.
        workers : int, optional
            Decoding threads; by default as many as there are cores.
        moved_from : str or Path, optional
            Where it was before; its images keep their rows, and what has been said of them.
        views : int, default=0
            Augmented views each image is to have, for SCP; see `imageherd.features.views`.
        engine : RayEngine, optional
            Embeds on many machines; by default this process does it.
        dtype : {"float32", "float16"}, default="float32"
            What features are kept in, each a set of its own; computed with is float32 always.
        """
        listed = source if isinstance(source, Listed) else Listed(source)
        asked = (listed.uri, backbone, "cpu" if engine else device, dtype)
        net = self._loaded.pop(asked, None) or load_maker(self.path, listed.source, *asked[1:])
        with self._writing():
            about = (self.path, self._items, listed, net, backbone, workers)
            ray = engine.of(backbone, device) if engine else None
            return add_source(*about, moved_from=moved_from, views=views, engine=ray)

    def estimate(
        self,
        source: str | Path | Listed,
        *,
        backbone: str = DEFAULT_BACKBONE,
        device: str = "auto",
        workers: int | None = None,
        moved_from: str | Path | None = None,
        dtype: str = "float32",
    ) -> float:
        """Return about how many seconds `embed` would take, measured on a handful of its images.

        The backbone is loaded for it and stays so until `embed` has used it.
        """
        listed = source if isinstance(source, Listed) else Listed(source)
        net = load_maker(self.path, listed.source, *(asked := (backbone, device, dtype)))
        self._loaded[listed.uri, *asked] = net
        index = source_index(self.path, listed, moved_from)
        shards = self.path / "features" / net.key
        return estimate_embedding(self._items, listed, index, net, shards, workers=workers)

    # ---- clustering

    def cluster(
        self,
        method: str | None = None,
        n_clusters: int | str = "auto",
        *,
        name: str = "default",
        random_state: int = 0,
        device: str = "auto",
        features: str | None = None,
        keep_duplicates: bool = False,
        reject: float = 0.0,
        neighbors: str = "auto",
        train_on: int | None = None,
        warm_start: bool = False,
        learn_edits: bool = False,
        **params: Any,
    ) -> Clustering:
        """Fit a head on the herd's features, name the clusters and keep the result as a version.

        A cluster that an earlier version of `name` had too keeps its uid and the name a person
        gave it. Killed, the same call goes on from its last checkpoint.

        Parameters
        ----------
        method : str, optional
            One of `imageherd.heads.HEADS`, by default "tsp"; "auto": `imageherd.choosing` chooses.
        n_clusters : int or "auto", default="auto"
            "auto" takes `Herd.count`'s answer; a method that counts itself takes no number.
        name : str, default="default"
            What the clustering is called; a herd holds as many as you like.
        random_state, device
            The head's seed, and where it trains.
        features : str, optional
            Key of the feature set; the one embedded last by default.
        keep_duplicates : bool, default=False
            Fit all of copies, near-copies and bursts, not one of each; all are placed either way.
        reject : float, default=0
            This share of the images, those least like their nearest, is said to fit nowhere.
        neighbors : {"auto", "exact", "approx"}, default="auto"
            How they are found; see `imageherd.derived.kept_graph`.
        train_on : int, optional
            Fit so many images, drawn at random, their neighbors among them; the head puts others.
        warm_start, learn_edits : bool, default=False
            Go on from the current version of `name`, with its method, number of clusters, features
            and parameters, or learn what a person edited in it too; see `imageherd.warm_start`.
        **params
            Parameters of the head; `views` and `devices` as in `imageherd.fitting.fit`.
        """
        start, lesson, where = None, None, {"random_state": random_state, "device": device}
        if warm_start or learn_edits:
            asked = (method, n_clusters, features, params)
            start, lesson, asked = begin(self.path, name, asked, learn_edits, random_state, device)
            method, n_clusters, features, params = asked
        with self._writing():
            data, how = self.features(features), partial(self.neighbors, how=neighbors)
            found = fit(
                *(self.path, versions_of(self.path, name), data, self.items(), how),
                lambda some: self.count(some, random_state=random_state),
                method=method or "tsp",
                n_clusters=n_clusters,
                keep_duplicates=keep_duplicates,
                reject=reject,
                train_on=train_on,
                start=start,
                lesson=lesson,
                params=params | where,
            )
            remove_leftovers(self.path, self._readable())
        return found

    def count(self, features: Features | None = None, **options: Any) -> Count:
        """Estimate how many clusters there are; options of `imageherd.counting.count_clusters`."""
        return count_clusters((features or self.features()).X, **options)

    def clustering(self, name: str = "default", *, as_trained: bool = False) -> Clustering:
        """Return the current version of a clustering, with the edits of a person.

        With `as_trained` images are where the head put them; names that a person gave stay.
        """
        read_project(self.path)
        return (clustering_of if as_trained else edited)(self.path, name)

    def edit(self, name: str = "default", author: str = "") -> Edits:
        """Edit a clustering by hand: see `imageherd.edits.editing.Edits`."""
        read_project(self.path)
        return Edits(self.path, name, author)

    def name(self, clip: str | None = None, *, name: str = "default", **options: Any) -> Clustering:
        """Let the images vote on the names anew; see `imageherd.clip_naming.name_anew`."""
        with self._writing():
            old = self.clustering(name, as_trained=True)
            data = self.features(old.config["features"])
            return name_anew(self.path, old, data, self.items(), clip=clip, **options)

    def rename(self, uid: int, text: str, *, name: str = "default") -> Clustering:
        """Give the cluster `uid` a name of your own; it is kept when the clustering is refitted."""
        self.edit(name).rename(uid, text)
        return self.clustering(name)

    def merge(self, n_clusters: int, *, name: str = "default", to: str | None = None) -> Clustering:
        """Make a clustering coarser or finer and keep it: see `imageherd.merging.keep_merged`."""
        with self._writing():
            return keep_merged(self.path, self.clustering(name, as_trained=True), n_clusters, to)

    def assign(
        self,
        source: str | Path | Listed,
        *,
        name: str = "default",
        reject: float = 0.01,
        device: str = "auto",
        **how: Any,
    ) -> Assignment:
        """Embed the images of `source` and place those not yet clustered in existing clusters.

        What fits nowhere is set aside; see `imageherd.assignment.place`. A person's edits lead on
        from there: see `imageherd.edits.carrying.keep_new`.

        Parameters
        ----------
        source : str, Path or Listed
            As in `embed`.
        name : str, default="default"
            Which clustering.
        reject : float, default=0.01
            Between 0 (everything is placed) and 1.
        device, **how
            As in `embed`, with `workers` and `engine`; placing is left to this process.
        """
        if not 0 <= reject < 1:
            raise ImageherdError(f"reject={reject} is out of range; give a number in [0, 1).")
        old = self.clustering(name, as_trained=True)
        key = old.config["features"]
        with another_feature_set(self.path, key, name) as maker:
            self.embed(source, device=device, **maker, **how)
        device = "auto" if how.get("engine") else device
        data = self.features(key)
        head = versions_of(self.path, name).head(old.version, device=device)
        found = place(old, head, data.rows, data.vectors, reject=reject, device=device)
        with self._writing():
            found = keep_new(self.path, found, head, data)
            remove_leftovers(self.path, self._readable())
        return found

    def search(
        self,
        *,
        image: str | Path | None = None,
        text: str | None = None,
        item: int | str | None = None,
        **options: Any,
    ) -> Hits:
        """Find the images most like an image, a text or an item; see `imageherd.search.search`."""
        given: dict[str, Any] = {"image": image, "text": text, "item": item}
        return search(self.path, self.items(), self.features, self.clustering, **given, **options)

    # ---- what comes out

    def report(
        self, path: str | Path | None = None, *, name: str = "default", as_trained: bool = False
    ) -> Path:
        """Write the HTML report of a clustering; returns its path.

        By default that is ``report/index.html`` in the herd, or ``report/<name>.html`` for a
        clustering that is not called "default".
        """
        from imageherd.report import report_file, write_report
        from imageherd.report.gather import gather

        clustering = self.clustering(name, as_trained=as_trained)
        file = report_file(self.path, name) if path is None else Path(path)
        data = self.features(clustering.config["features"])
        about = (data.rows, data.X, kept_map(self.path, data), self.items(), sources_of(self.path))
        return write_report(gather(clustering, *about), file)

    def figures(
        self, folder: str | Path, *, name: str = "default", as_trained: bool = False, **options: Any
    ) -> Figures:
        """Write still figures of a clustering; see `imageherd.report.figures.write_figures`."""
        found = self.clustering(name, as_trained=as_trained)
        about = (found, self.features(found.config["features"]), self.items())
        return write_figures(Path(folder), self.path, *about, sources_of(self.path), **options)

    def evaluate(
        self, labels: str | Path, *, name: str = "default", as_trained: bool = False
    ) -> Evaluation:
        """Compare a clustering with known labels; see `imageherd.evaluation.evaluate`.

        `labels` is "folder", "column:NAME" or a CSV file; see `imageherd.evaluation.labels_of`.
        The k-NN graph of the labelled images is computed if it is not kept yet.
        """
        clustering = self.clustering(name, as_trained=as_trained)
        store = feature_set(self.path, clustering.config["features"])
        head = versions_of(self.path, name).head(clustering.version)
        known = labels_of(labels, self.items().take(clustering.rows), self.path)
        return evaluate(clustering, known, store, head, self.neighbors)

    def export(
        self,
        destination: str | Path,
        *,
        name: str = "default",
        as_trained: bool = False,
        **how: Any,
    ) -> Path:
        """Write a clustering for others to use; options of `imageherd.export.export`.

        With ``to="onnx"``, which takes no others: `imageherd.onnx_model.write_onnx`.
        """
        if how.get("to") == "onnx":
            from imageherd.onnx_model import write_onnx

            del how["to"]
            return write_onnx(self.path, destination, name=name, as_trained=as_trained, **how)
        clustering = self.clustering(name, as_trained=as_trained)
        store = feature_set(self.path, clustering.config["features"])
        about = (clustering, items := self.items(), sources_of(self.path), store)
        how |= {"columns": columns_of(self.path, items)}
        return export_module.export(*about, Path(destination), **how)

    # ---- inside

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, and know what another process has written since."""
        with locked(self.path):
            vars(self).pop("_items", None)
            yield

    def _readable(self) -> NDArray[np.int64]:
        """Return the rows of the images that are there and can be read."""
        items = self.items()
        return np.asarray(items["row"].filter(pc.equal(items["status"], OK)).to_numpy())
