"""``imageherd cluster``: features to clusters."""

from __future__ import annotations

from typing import Annotated

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.count import why
from imageherd.cli.screen import shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

EXAMPLES = """\b
Examples:
  imageherd cluster holiday.herd --n-clusters 20
  imageherd cluster holiday.herd --method temi --param epochs=50 --name by-temi"""


def cluster(
    herd: options.HerdArgument,
    method: options.Method = options.DEFAULT_METHOD,
    n_clusters: options.NClusters = "auto",
    name: options.ClusteringName = "default",
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            help="Set a parameter of the method; repeatable.",
        ),
    ] = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Cluster the features of a herd; nothing is embedded anew.

    A cluster that is found again keeps its number and the name you gave it.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        wanted = checks.cluster_count(n_clusters)
        checks.one_of("--method", method, options.METHODS)
        checks.device_name(device)
        checks.existing_herd(herd)
        params = checks.parameters(method, param or [])

        from imageherd.device import resolve_device
        from imageherd.herd import Herd

        resolve_device(device)
        kept = Herd(herd)
        checks.fits(wanted, len(kept.features().rows))
        try:
            found = kept.cluster(
                method, wanted, name=name, random_state=seed, device=device, **params
            )
        except (ValueError, TypeError) as error:
            # A head checks the values of its parameters when it is fitted.
            if not params:
                raise
            raise ImageherdError(f"{method} does not take these parameters: {error}") from error
        chosen = "" if name == "default" else f" --name {name}"
        if reason := why(found):
            screen.remark(f"{reason}.")
        tables.cluster_table(screen, found, f"imageherd name {shown(herd)}{chosen}")
        screen.remark()
        screen.remark(f"To look at it: imageherd report {shown(herd)}{chosen}")
        screen.result({"herd": herd, "clustering": tables.clustering_as_json(found)})
