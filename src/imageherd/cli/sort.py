"""``imageherd sort``: the whole way, from a pile of images to a report."""

from __future__ import annotations

import json
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.cluster import (
    METHODS,
    KeepDuplicates,
    Method,
    collapse_told_once,
    of_copies,
    say_why,
)
from imageherd.cli.screen import Screen, duration, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError
from imageherd.project import is_herd

if TYPE_CHECKING:
    from imageherd.clustering import Clustering
    from imageherd.derived import Features
    from imageherd.herd import Herd

EXAMPLES = """\b
Examples:
  imageherd sort holiday/
  imageherd sort holiday.zip
  imageherd sort holiday/ --n-clusters 12 --open
  imageherd sort holiday/ --herd work/holiday.herd --method temi --device cuda"""

CLUSTERING = "default"


def sort(
    source: options.SourceArgument,
    herd: options.HerdOption = None,
    n_clusters: options.NClusters = "auto",
    method: Method = options.DEFAULT_METHOD,
    backbone: options.Backbone = options.DEFAULT_BACKBONE,
    keep_duplicates: KeepDuplicates = False,
    moved_from: options.MovedFrom = None,
    image_column: options.ImageColumn = None,
    workers: options.Workers = None,
    neighbors: options.Neighbors = "auto",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the HTML report.")
    ] = True,
    open_report: Annotated[
        bool, typer.Option("--open", help="Open the report in the browser at the end.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Sort a pile of images: embed, count, cluster, name, report.

    Run again, it does only what is missing: new images are added, the rest is kept.
    """
    home = herd or checks.default_herd(moved_from or source)
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=home) as screen:
        started = time.monotonic()
        wanted = checks.cluster_count(n_clusters)
        checks.one_of("--method", method, METHODS)
        checks.one_of("--neighbors", neighbors, checks.NEIGHBORS)
        checks.device_name(device)
        found = checks.source(source, image_column)
        checks.new_or_own_herd(herd, source, found, moved_from)
        n_found = checks.say_source(screen, source, found)
        if not is_herd(home):
            checks.fits(wanted, n_found)

        from imageherd.device import resolve_device
        from imageherd.herd import Herd

        resolve_device(device)
        kept = Herd(home)
        how: dict[str, Any] = {"backbone": backbone, "device": device, "workers": workers}
        seconds = kept.estimate(found, moved_from=moved_from, **how)
        if seconds:
            screen.remark(_forecast(seconds, n_found))
        summary = kept.embed(found, moved_from=moved_from, **how)
        if not seconds:
            screen.remark(tables.embed_line(summary, found.uri))
        bad = tables.unreadable(kept.items())
        if summary.n_unreadable == summary.n_images:
            tables.unreadable_lines(screen, bad)
            raise ImageherdError(
                f"None of the {summary.n_images:,} files in {shown(source)} can be read."
            )
        clustering = _fitting_clustering(kept, method, wanted, seed, keep_duplicates)
        if clustering and neighbors == "exact" and "neighbors" in clustering.config:
            clustering = None
        if clustering is None:
            checks.fits(wanted, len(kept.features().rows))
            with collapse_told_once():
                clustering = kept.cluster(
                    method,
                    wanted,
                    name=CLUSTERING,
                    random_state=seed,
                    device=device,
                    keep_duplicates=keep_duplicates,
                    neighbors=neighbors,
                )
        path = _report(kept, home) if report else None

        screen.remark()
        if copies := of_copies(clustering):
            screen.remark(copies)
        say_why(screen, clustering)
        if not quiet:
            more = f"imageherd name {shown(home)}"
            tables.cluster_table(screen, clustering, more)
        tables.unreadable_lines(screen, bad)
        screen.remark()
        screen.remark(f"Done in {duration(time.monotonic() - started)}. The herd: {shown(home)}")
        if path is not None:
            screen.line(shown(path))
            _open(path, open_report, screen)
        screen.result(
            {
                "herd": home,
                "images": tables.embed_as_json(summary),
                "clustering": tables.clustering_as_json(clustering),
                "unreadable": tables.unreadable_as_json(bad),
                "report": path,
                "seconds": time.monotonic() - started,
            }
        )


def _forecast(embedding: float, n_images: int) -> str:
    # A line through two points on 2 cores: 400 images took 6 s after embedding; of 10,000 the head
    # takes 10 s, the map 40 s, the rest is counting and thumbnails.
    rest = 4 + 0.006 * min(n_images, 200_000)
    return (
        f"Embedding will take about {duration(embedding)}, clustering and report about "
        f"{duration(rest)}."
    )


def _fitting_clustering(
    herd: Herd, method: str, n_clusters: int | str, seed: int, keep_duplicates: bool
) -> Clustering | None:
    """Return the clustering that is there, if fitting anew would only repeat it."""
    import numpy as np

    from imageherd.choosing import AUTO
    from imageherd.heads.make import make_head

    try:
        found = herd.clustering(CLUSTERING)
    except ImageherdError:
        return None
    features = herd.features()
    config = found.config
    if method == AUTO:
        asked = {"method": AUTO, "random_state": seed}
        if config.get("chosen", {}).get("asked") != asked:
            return None
        method, seed = config["method"], config["params"]["random_state"]
    # A method that counts itself has no such parameter.
    k = config["params"].get("n_clusters", 2)
    # What this very command would fit, were it to fit with that many clusters.
    n = len(features.rows)
    wanted = make_head(method, max(k, 2), n, random_state=seed, device="cpu").get_params()
    itself = "n_clusters" not in config["params"]
    if not itself:
        wanted["n_clusters"] = k
    counted = n_clusters == "auto" and ("counted" in config or itself)
    same = (
        config["method"] == method
        and config["features"] == features.key
        # As read back from JSON, where a tuple is a list.
        and {**config["params"], "device": "cpu"} == json.loads(json.dumps(wanted))
        and (counted or k == n_clusters)
        and config.get("keep_duplicates", False) == keep_duplicates
        and not config.get("reject", 0)
        and config.get("views") == _n_views(method, features)
        and np.array_equal(found.rows, features.rows)
    )
    return found if same else None


def _n_views(method: str, features: Features) -> int | None:
    """Return how many views of each image a method would train on now; None for none."""
    from imageherd.fitting import views_for

    views = views_for(method, features)
    return None if views is None else views.shape[1]


def _report(herd: Herd, home: Path) -> Path:
    """Write the report, unless the one that is there is younger than the clustering."""
    path = home / "report" / "index.html"
    basis = [
        home / "clusterings" / CLUSTERING / "current.json",
        home / "clusterings" / CLUSTERING / "names.json",
        home / "clusterings" / CLUSTERING / "edits.sqlite",
        home / "clusterings" / CLUSTERING / "edits.sqlite-wal",
        *home.glob("items/*.parquet"),
    ]
    if path.exists():
        written = path.stat().st_mtime_ns
        if all(b.stat().st_mtime_ns < written for b in basis if b.exists()):
            return path
    return herd.report()


def _open(path: Path, asked: bool, screen: Screen) -> None:
    if asked and not webbrowser.open(path.resolve().as_uri()):
        screen.note(f"No browser was found to open {shown(path)}.")
