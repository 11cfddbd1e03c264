"""Which still figures a herd's clustering gets, gathered from the herd and written to a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from imageherd.clustering import Clustering
from imageherd.counting import Count, count_by_head, count_clusters
from imageherd.counting_rules import RULES
from imageherd.derived import Features, kept_map
from imageherd.errors import ImageherdError
from imageherd.images.source import Source
from imageherd.metrics import confusion
from imageherd.progress import progress
from imageherd.report import plots
from imageherd.report.count_plot import count_figure
from imageherd.report.map import layout
from imageherd.report.material import LeftOutError, Material
from imageherd.report.palette import MAX_COLOURS
from imageherd.report.plots_style import add_caption, sample, styled
from imageherd.search_space import OWN_SPACE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imageherd.heads.cpp import CPP

MAX_ON_MAP = 5_000
N_NEAREST = 6
N_FOUND = 16
CODING_LENGTH = "coding-length"


@dataclass(frozen=True)
class Figures:
    """The figures written.

    Attributes
    ----------
    files : dict of str to Path
        The file of each, by the figure's name.
    left_out : dict of str to str
        Why each of the others was not drawn, one sentence.
    """

    files: dict[str, Path]
    left_out: dict[str, str]


def write_figures(
    folder: Path,
    herd: Path,
    clustering: Clustering,
    data: Features,
    items: pa.Table,
    sources: list[Source],
    *,
    labels: str | Path | None = None,
    format: str = "png",
    random_state: int = 0,
) -> Figures:
    """Draw the figures that a clustering allows and write them to a folder.

    Parameters
    ----------
    folder : Path
        Made if need be. Files with the names of figures are ours: they are replaced, and removed
        where the figure is not drawn this time. Others are left alone.
    herd : Path
        The herd.
    clustering : Clustering
        Whose figures; images that are gone since are left out.
    data : Features
        The features it was made on.
    items : pyarrow.Table
        The herd's items.
    sources : list of Source
        Where the images are.
    labels : str or Path, optional
        A CSV with the columns path and label, or "folder": the name of each image's folder. The
        confusion matrix needs them, and neighbour consistency is then of labels, not of clusters.
    format : {"png", "svg"}, default="png"
        Of the files.
    random_state : int, default=0
        Seed of the samples: above 10,000 images, figures show as many of them, drawn at random
        (maps 5,000, similarity 1,000), and say so.

    Returns
    -------
    Figures

    Raises
    ------
    ImageherdError
        If the format is another, or the labels cannot be read or fit no image.

    Notes
    -----
    About a minute of one core for 10,000 images of 1,280 features or more, half of it the singular
    values, a quarter the map after the head; besides, the map of the features where none is kept.
    """
    if format not in plots.FORMATS:
        raise ImageherdError(
            f"format={format!r} is not known; choose from: {', '.join(plots.FORMATS)}."
        )
    material = Material(herd, clustering, data, items, sources, labels, random_state)
    if labels is not None:
        # A mistake in them is told before anything is drawn.
        _ = material.all_labels
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    with progress("Figures", len(DRAWN), "figures") as advance:
        for name, draw in DRAWN.items():
            try:
                figure = draw(material)
            except LeftOutError as why:
                left_out[name] = str(why)
                # What an earlier run drew would be taken for one of this clustering.
                for old in plots.FORMATS:
                    (folder / f"{name}.{old}").unlink(missing_ok=True)
            else:
                files[name] = folder / f"{name}.{format}"
                plots.save_figure(figure, files[name])
            advance(1)
    return Figures(files, left_out)


def _similarity(m: Material) -> Figure:
    n = min(len(m.rows), 1_000)
    return plots.similarity_figure(
        m.X,
        m.after,
        m.codes,
        names=m.names,
        titles=m.titles,
        max_rows=n,
        random_state=m.random_state,
        caption=m.caption("Ticks are where a cluster ends, the largest first.", n=n),
    )


def _singular_values(m: Material) -> Figure:
    return plots.singular_values_figure(
        m.X,
        m.after,
        m.codes,
        titles=m.titles,
        caption=m.caption("Rows of length one, not centred."),
    )


@styled
def _count(m: Material) -> Figure:
    """Draw the curve that chose the number of clusters, and the coding length's (CPP, fig. 4)."""
    counts = []
    counted = m.clustering.config.get("counted", {})
    # Clusterings counted before there were several rules do not name theirs; rules may go, too.
    if counted.get("rule") in RULES:
        ks, scores = tuple(counted["ks"]), tuple(counted["scores"])
        counts.append(Count(counted["n_clusters"], ks, scores, counted["rule"]))
    if m.method == "cpp":
        counts.append(count_by_head(cast("CPP", m.head)))
    elif CODING_LENGTH not in {count.rule for count in counts}:
        counts.append(count_clusters(m.X, rule=CODING_LENGTH, random_state=m.random_state))
    counts = [count for count in counts if len(count.ks) > 1]
    if not counts:
        raise LeftOutError("there are too few images to compare numbers of clusters")
    figure = count_figure(counts)
    for axes, count in zip(figure.axes, counts, strict=True):
        long = count.rule == CODING_LENGTH
        axes.set_ylabel("coding length, nats an image" if long else f"{count.rule} score")
    add_caption(figure, m.caption("Filled: the number a rule chooses; open: those that come next."))
    return figure


def _consistency(m: Material) -> Figure:
    of, codes = "cluster", m.codes
    if m.labels is not None:
        of, codes = "label", m.label_codes
    curves = {
        title: plots.consistency_curve(ids, codes)
        for title, ids in zip(m.titles, (m.nearest, m.nearest_after), strict=True)
    }
    n = int((codes >= 0).sum())
    return plots.consistency_figure(
        curves, of=of, caption=m.caption("Neighbors by cosine similarity, among these images.", n=n)
    )


def _neighbors(m: Material) -> Figure:
    found = m.nearest[m.queries, :N_NEAREST]
    return plots.gallery_figure(
        m.pictures(m.queries),
        [m.pictures(row) for row in found],
        m.codes[found] == m.codes[m.queries, None],
        names=[m.names[c] for c in m.codes[m.queries]],
        caption=m.caption(
            f"An image each of {len(m.queries)} clusters, drawn at random, and its nearest by the "
            "features' cosine."
        ),
    )


def _maps(m: Material) -> Figure:
    chosen = sample(len(m.rows), MAX_ON_MAP, m.random_state)
    before = kept_map(m.herd, m.data)[np.searchsorted(m.data.rows, m.rows[chosen])]
    codes = m.codes[chosen]
    recur = "Colours recur." if len(m.names) > MAX_COLOURS else ""
    return plots.maps_figure(
        before,
        layout(m.after[chosen], random_state=m.random_state),
        codes,
        names=m.names,
        titles=m.titles,
        caption=m.caption(f"{len(np.unique(codes[codes >= 0]))} clusters.", recur, n=len(chosen)),
    )


def _confusion(m: Material) -> Figure:
    labels = m.all_labels
    used = np.array([x is not None for x in labels]) & (m.clustering.uids >= 0)
    if not used.any():
        raise LeftOutError("none of the labelled images is in a cluster")
    true = np.array([label for label, use in zip(labels, used, strict=True) if use])
    found = confusion(true, m.clustering.uids[used])
    names = m.clustering.names()
    return plots.confusion_figure(
        found.matrix,
        [str(c) for c in found.classes],
        [names[int(uid)] for uid in found.clusters],
        caption=m.caption(
            "Counts of images; clusters stand in the order of the classes they match best.",
            n=int(used.sum()),
        ),
    )


def _entropies(m: Material) -> Figure:
    chosen = m.clustering.config.get("chosen", {})
    if "betas" not in chosen:
        raise LeftOutError("no β was chosen; cluster with --method temi --param beta=auto")
    return plots.entropies_figure(
        chosen["betas"],
        chosen["clusters"],
        chosen["images"],
        m.clustering.config["params"]["n_clusters"],
        chosen=chosen["beta"],
        caption=m.caption(
            "Taken: the lowest β at which the first less the second is near its greatest."
        ),
    )


def _training(m: Material) -> Figure:
    history = m.head.history_
    if len(history) < 2:
        raise LeftOutError(f"{m.method} tells of no epochs")
    return plots.training_figure(history, caption=m.caption())


def _search(m: Material) -> Figure:
    if m.method not in OWN_SPACE:
        raise LeftOutError(
            f"{m.method} has no space of its own to search in; {', '.join(OWN_SPACE)} have"
        )
    query = m.queries[:1]
    n = min(N_FOUND, m.nearest.shape[1])
    left, right = m.nearest[query[0], :n], m.nearest_after[query[0], :n]
    return plots.search_figure(
        m.pictures(query)[0],
        m.pictures(left),
        m.pictures(right),
        m.codes[left] == m.codes[query],
        m.codes[right] == m.codes[query],
        titles=m.titles,
        caption=m.caption(
            "An image of the largest cluster, drawn at random; by cosine similarity."
        ),
    )


DRAWN: dict[str, Callable[[Material], Figure]] = {
    "count": _count,
    "similarity": _similarity,
    "singular-values": _singular_values,
    "consistency": _consistency,
    "neighbors": _neighbors,
    "maps": _maps,
    "confusion": _confusion,
    "entropies": _entropies,
    "training": _training,
    "search": _search,
}
"""The figures by the names of their files, in the order they are drawn."""
