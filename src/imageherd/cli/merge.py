"""``imageherd merge``: fewer, larger clusters, or the way back to more."""

from __future__ import annotations

from typing import Annotated

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.screen import shown
from imageherd.cli.session import running

EXAMPLES = """\b
Examples:
  imageherd merge holiday.herd --n-clusters 8
  imageherd merge holiday.herd --n-clusters 8 --to coarse
  imageherd cluster holiday.herd --n-clusters 60   # many first, then:
  imageherd merge holiday.herd --n-clusters 20"""

_FEW = 3


def merge(
    herd: options.HerdArgument,
    n_clusters: Annotated[
        int,
        typer.Option(
            "--n-clusters",
            metavar="N",
            min=2,
            help="How many clusters to have; at most as many as were fitted.",
            show_default=False,
        ),
    ],
    name: options.ClusteringName = "default",
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="NEWNAME",
            help="Keep the result as a new clustering of this name and leave the other as it is.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Join like clusters until N are left, or part them again.

    Nothing is fitted anew and no image leaves its group: clusters become one whole. A cluster that
    is joined with none keeps its number; joined ones get a number of their own, and the name you
    gave to the largest of them.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)

        from imageherd.herd import Herd
        from imageherd.merging import dendrogram, origins

        kept = Herd(herd)
        old = kept.clustering(name)
        new = kept.merge(n_clusters, name=name, to=to)
        came_from, names = origins(old, new), old.names()
        screen.table(
            ("uid", "cluster", f"{tables.noun(new)}s", "of all", "from"),
            (
                (
                    c.uid,
                    c.name,
                    f"{c.size:,}",
                    f"{c.size / len(new.rows):.1%}",
                    _listed([f"{names[uid]} ({uid})" for uid in came_from[c.uid]]),
                )
                for c in new.clusters[: tables.MOST_ROWS]
            ),
            left=("cluster", "from"),
        )
        chosen = "" if new.name == "default" else f" --name {new.name}"
        if len(new.clusters) > tables.MOST_ROWS:
            screen.remark(
                f"… and {len(new.clusters) - tables.MOST_ROWS:,} more: "
                f"imageherd name {shown(herd)}{chosen}"
            )
        fitted = len(dendrogram(new).uids)
        screen.remark()
        screen.remark(f"To look at it: imageherd report {shown(herd)}{chosen}")
        if n_clusters < fitted:
            screen.remark(
                f"Back to all {fitted}: imageherd merge {shown(herd)} --n-clusters {fitted}{chosen}"
            )
        clusters = tables.clustering_as_json(new)
        for cluster in clusters["clusters"]:
            cluster["from"] = came_from[cluster["uid"]]
        screen.result({"herd": herd, "n_fitted": fitted, "clustering": clusters})


def _listed(parts: list[str]) -> str:
    more = f" + {len(parts) - _FEW} more" if len(parts) > _FEW else ""
    return " + ".join(parts[:_FEW]) + more
