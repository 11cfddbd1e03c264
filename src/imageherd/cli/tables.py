"""What several verbs print, and its form for machines."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from imageherd.cli.screen import Screen, counted
from imageherd.heads import HEADS

if TYPE_CHECKING:
    import pyarrow as pa

    from imageherd.clustering import Clustering
    from imageherd.features.pipeline import EmbedSummary

MOST_ROWS = 40
FEW = 3


def cluster_table(screen: Screen, clustering: Clustering, more: str) -> None:
    """Print name, size, share of the images and confidence of each cluster, largest first.

    Parameters
    ----------
    screen : Screen
        Where to.
    clustering : Clustering
        What to print.
    more : str
        The command that prints all clusters, named where there are too many for a table.
    """
    n, what = len(clustering.rows), noun(clustering)
    screen.table(
        ("cluster", f"{what}s", "of all", "confidence"),
        (
            (c.name, f"{c.size:,}", f"{c.size / n:.1%}", f"{c.confidence:.2f}")
            for c in clustering.clusters[:MOST_ROWS]
        ),
        left=("cluster",),
    )
    rest = clustering.clusters[MOST_ROWS:]
    if rest:
        images = counted(sum(c.size for c in rest), what)
        screen.line(f"... and {counted(len(rest), 'smaller cluster')} with {images}: {more}")
    asked = clustering.config.get("params", {}).get("n_clusters", 0)
    merged = "parts" in clustering.config or clustering.as_trained is not None
    if len(clustering.clusters) < asked and not merged:
        n_empty = counted(asked - len(clustering.clusters), "cluster")
        screen.note(
            f"{asked} clusters were to be made; {n_empty} stayed empty. To use more, "
            f"{HEADS[clustering.config['method']].against_collapse}."
        )
    nowhere = int((clustering.uids < 0).sum())
    if nowhere:
        screen.line(f"{counted(nowhere, what)} fit nowhere.")


def noun(clustering: Clustering) -> str:
    """Return what the items of a clustering's herd are called: "image", or "text"."""
    from imageherd.project import read_project
    from imageherd.sources import noun_of

    folder = clustering.folder
    return "image" if folder is None else noun_of(read_project(folder.parents[1])["sources"])


def clustering_as_json(clustering: Clustering) -> dict[str, Any]:
    """Return what a machine may want to know of a clustering, less the assignments."""
    return {
        "name": clustering.name,
        "version": clustering.version,
        "method": clustering.config.get("method"),
        "n_clusters": len(clustering.clusters),
        "n_images": len(clustering.rows),
        "n_nowhere": int((clustering.uids < 0).sum()),
        "n_duplicates": n_duplicates(clustering),
        "clusters": [
            {
                "uid": c.uid,
                "name": c.name,
                "size": c.size,
                "share_of_images": c.size / len(clustering.rows),
                "confidence": c.confidence,
                "share_of_vote": c.share,
                "runner_up": c.runner_up,
                "medoids": c.medoids,
            }
            for c in clustering.clusters
        ],
    }


def n_duplicates(clustering: Clustering) -> int | None:
    """Count the images that repeat another, which stands for them; None where it is not known."""
    quality = clustering.quality
    return None if quality is None else int((quality.duplicate_of >= 0).sum())


def embed_line(summary: EmbedSummary, uri: str = "", lacking: str = "unreadable") -> str:
    """Say in a line what an embedding run did, of the source with this URI; `lacking` why not."""
    from imageherd.sources import noun_of

    parts = [f"{counted(summary.n_images, noun_of([uri]))}: {summary.n_embedded:,} embedded now"]
    already = summary.n_images - summary.n_embedded - summary.n_copied - summary.n_unreadable
    optional = (
        (max(0, already), "had features already"),
        (summary.n_copied, "known by content"),
        (summary.n_unreadable, lacking),
        (summary.n_deleted, "no longer there"),
    )
    return ", ".join(parts + [f"{n:,} {what}" for n, what in optional if n]) + "."


def embed_as_json(summary: EmbedSummary) -> dict[str, Any]:
    """Return an embedding run's counts."""
    return {
        "n_images": summary.n_images,
        "n_embedded": summary.n_embedded,
        "n_copied": summary.n_copied,
        "n_unreadable": summary.n_unreadable,
        "n_deleted": summary.n_deleted,
        "n_views": summary.n_views,
        "seconds": summary.seconds,
    }


def unreadable(items: pa.Table) -> list[tuple[str, list[str]]]:
    """Return each reason with the display paths it keeps from being read, most frequent first."""
    import pyarrow.compute as pc

    by_reason: dict[str, list[str]] = defaultdict(list)
    bad = items.select(["reason", "path"]).filter(pc.equal(items["status"], "unreadable"))
    for item in bad.to_pylist():
        by_reason[item["reason"] or "unknown"].append(item["path"])
    return sorted(by_reason.items(), key=lambda entry: (-len(entry[1]), entry[0]))


def unreadable_lines(screen: Screen, classes: list[tuple[str, list[str]]], uri: str = "") -> None:
    """Print a line for each reason: how many files, and the first few; `uri` is their source's."""
    if not classes:
        return
    from imageherd.sources import noun_of

    what = noun_of([uri]).replace("image", "file")
    total = sum(len(paths) for _, paths in classes)
    screen.remark()
    screen.remark(f"{counted(total, what)} could not be read:", style="yellow")
    for reason, paths in classes:
        more = f" and {len(paths) - FEW:,} more" if len(paths) > FEW else ""
        screen.remark(f"  {len(paths):,}  {reason}: {', '.join(paths[:FEW])}{more}")


def unreadable_as_json(classes: list[tuple[str, list[str]]]) -> list[dict[str, Any]]:
    """Return the classes of unreadable files for a machine, every path included."""
    return [{"reason": reason, "count": len(paths), "paths": paths} for reason, paths in classes]
