"""``imageherd name``: what the clusters are called."""

from __future__ import annotations

from typing import Annotated

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.screen import shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

EXAMPLES = """\b
Examples:
  imageherd name holiday.herd
  imageherd name holiday.herd --rename 3="Beach at night" --rename 7=Grandma"""


def name(
    herd: options.HerdArgument,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="UID=TEXT",
            help="Give the cluster with this number a name of your own; repeatable.",
        ),
    ] = None,
    name: options.ClusteringName = "default",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show what the clusters are called, or call them otherwise.

    A name of your own is kept when the clustering is made anew.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        new_names = _renames(rename or [])

        from imageherd.herd import Herd

        kept = Herd(herd)
        clustering = kept.clustering(name)
        for uid in new_names:
            # All of them before the first is changed: a typo must not leave half a renaming.
            clustering.cluster(uid)
        for uid, text in new_names.items():
            clustering = kept.rename(uid, text, name=name)
        screen.table(
            ("uid", "name", "images", "votes", "runner-up"),
            (
                (
                    c.uid,
                    c.name,
                    f"{c.size:,}",
                    None if c.share is None else f"{c.share:.0%}",
                    c.runner_up,
                )
                for c in clustering.clusters
            ),
            left=("name", "runner-up"),
        )
        if new_names:
            chosen = "" if name == "default" else f" --name {name}"
            screen.remark()
            screen.remark(f"To have it in the report: imageherd report {shown(herd)}{chosen}")
        screen.result({"herd": herd, "clustering": tables.clustering_as_json(clustering)})


def _renames(pairs: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for pair in pairs:
        uid, equals, text = pair.partition("=")
        if not equals or not uid.strip().isdecimal() or not text.strip():
            raise ImageherdError(
                f'--rename {pair} is not UID=TEXT, such as --rename 3="Beach at night"; '
                "imageherd name HERD shows the uids."
            )
        found[int(uid)] = " ".join(text.split())
    return found
