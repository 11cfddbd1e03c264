"""``imageherd cluster``: features to clusters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.count import why
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError
from imageherd.pretraining.places import check_name, folder_of

if TYPE_CHECKING:
    from imageherd.clustering import Clustering
    from imageherd.herd import Herd

EXAMPLES = """\b
Examples:
  imageherd cluster holiday.herd --n-clusters 20
  imageherd cluster holiday.herd --method temi --param epochs=50 --name by-temi
  imageherd cluster holiday.herd --warm-start by-temi
  imageherd cluster holiday.herd --learn-edits
  imageherd cluster museum.herd --train-on 200000 --n-clusters 500"""


METHODS = ("auto", *options.METHODS)
_HOW = (
    "How to cluster; auto tries the quick ones and takes the one whose clusters are the most "
    "plausible."
)
Method = Annotated[str, typer.Option("--method", metavar="|".join(METHODS), help=_HOW)]
KeepDuplicates = Annotated[
    bool,
    typer.Option(
        "--keep-duplicates",
        help="Fit all of copies, near-copies and bursts, not one of each; all are placed either "
        "way.",
    ),
]


def cluster(
    herd: options.HerdArgument,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="|".join(METHODS),
            show_default=f"{options.DEFAULT_METHOD}, or that of --warm-start",
            help=_HOW,
        ),
    ] = None,
    n_clusters: options.NClusters = "auto",
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            show_default="default, or that of --warm-start",
            help="What the clustering is called.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            help="Set a parameter of the method; repeatable.",
        ),
    ] = None,
    keep_duplicates: KeepDuplicates = False,
    reject: Annotated[
        float,
        typer.Option(
            "--reject",
            metavar="SHARE",
            help="Set aside this share of the images, those least like their nearest; 0 places "
            "every image.",
        ),
    ] = 0.0,
    neighbors: options.Neighbors = "auto",
    views: Annotated[
        bool | None,
        typer.Option(
            "--views/--no-views",
            help="Train on the augmented views that embed --views has made (scp, lsdc), or not.",
            show_default="scp does where there are some",
        ),
    ] = None,
    unfreeze: Annotated[
        str | None,
        typer.Option(
            "--unfreeze",
            metavar="NAME|FOLDER",
            help="With temi, on features of a network of yours: train the network too, along with "
            "the head, and keep it here.",
            show_default=False,
        ),
    ] = None,
    train_on: Annotated[
        int | None,
        typer.Option(
            "--train-on",
            metavar="N",
            help="Fit N images drawn at random; the others go where the result puts them. For "
            "millions of images.",
            show_default="all",
        ),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--warm-start",
            metavar="NAME",
            help="Make this clustering anew, with the images that came since, from what its "
            "method had learned.",
        ),
    ] = None,
    learn_edits: Annotated[
        bool,
        typer.Option(
            "--learn-edits",
            help="Make the clustering anew from what its method had learned and what you have "
            "corrected by hand, so that similar images move too (tsp, temi, lsdc).",
        ),
    ] = False,
    device: options.Device = "auto",
    devices: Annotated[
        int,
        typer.Option(
            "--devices",
            metavar="N",
            min=1,
            help="With temi or cpp: how many GPUs train, each on its part of every batch.",
        ),
    ] = 1,
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
        if not 0 <= reject < 1:
            raise ImageherdError(f"--reject {reject} is out of range; give 0 or more, less than 1.")
        if learn_edits:
            _check_learning(warm_start, unfreeze)
        elif warm_start is None:
            method = method or options.DEFAULT_METHOD
        checks.one_of("--method", method or options.DEFAULT_METHOD, METHODS)
        name = _name(name, warm_start, train_on)
        if method == "auto" and param:
            raise ImageherdError("--param is for one method; auto tries several. Name the method.")
        checks.one_of("--neighbors", neighbors, checks.NEIGHBORS)
        checks.device_name(device)
        checks.existing_herd(herd)

        from imageherd.device import resolve_device
        from imageherd.herd import Herd

        resolve_device(device)
        kept = Herd(herd)
        used = method or kept.clustering(name).config["method"]
        params = checks.parameters(used, param or [])
        params |= {} if views is None else {"views": views}
        params |= {} if devices == 1 else {"devices": _shared(used, devices)}
        checks.fits(wanted, len(kept.features().rows))
        if unfreeze is not None:
            _check_unfreeze(kept, used, unfreeze)
        try:
            with collapse_told_once():
                found = kept.cluster(
                    method,
                    wanted,
                    name=name,
                    random_state=seed,
                    device=device,
                    keep_duplicates=keep_duplicates,
                    reject=reject,
                    neighbors=neighbors,
                    train_on=train_on,
                    warm_start=warm_start is not None,
                    learn_edits=learn_edits,
                    **params,
                )
        except (ValueError, TypeError) as error:
            # A head checks the values of its parameters when it is fitted.
            if not params:
                raise
            raise ImageherdError(f"{used} does not take these parameters: {error}") from error
        if unfreeze is not None:
            from imageherd.pretraining.joint_run import unfreeze as go_on

            found = go_on(kept, found, folder_of(unfreeze), random_state=seed, device=device)
            screen.remark(f"To use the network: --backbone {shown(unfreeze)}")
        chosen = "" if name == "default" else f" --name {name}"
        if copies := of_copies(found):
            screen.remark(copies)
        say_why(screen, found)
        tables.cluster_table(screen, found, f"imageherd name {shown(herd)}{chosen}")
        screen.remark()
        screen.remark(f"To look at it: imageherd report {shown(herd)}{chosen}")
        screen.result({"herd": herd, "clustering": tables.clustering_as_json(found)})


def _check_learning(warm_start: str | None, unfreeze: str | None) -> None:
    for option, given in (("--warm-start", warm_start), ("--unfreeze", unfreeze)):
        if given is not None:
            raise ImageherdError(
                f"--learn-edits goes on from the clustering that was edited, by itself; leave "
                f"{option} out."
            )


def _check_unfreeze(herd: Herd, method: str, out: str) -> None:
    from imageherd.pretraining.joint_run import startable

    if method != "temi":
        raise ImageherdError("--unfreeze is for --method temi; other methods leave networks be.")
    check_name(out)
    startable(herd, herd.features().key, folder_of(out))


def _shared(method: str, devices: int) -> int:
    from imageherd.heads import HEADS

    if method not in HEADS or not HEADS[method].shares_batches:
        raise ImageherdError(
            f"--devices {devices} is for --method temi and cpp; leave it out with {method}."
        )
    return devices


def _name(name: str | None, warm_start: str | None, train_on: int | None) -> str:
    """Say what the clustering is called, after a look at what decides it or goes with it."""
    if train_on is not None and train_on < 2:
        raise ImageherdError(f"--train-on {train_on} is too few to fit; give 2 or more.")
    if warm_start is not None and name not in (None, warm_start):
        raise ImageherdError(
            f"--warm-start {warm_start} makes {warm_start} anew; leave --name {name} out."
        )
    return name or warm_start or "default"


@contextmanager
def collapse_told_once() -> Iterator[None]:
    """Leave it to `tables.cluster_table` to say that clusters stayed empty."""
    from imageherd.heads.base import CollapseWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        yield


def say_why(screen: Screen, clustering: Clustering) -> None:
    """Say why so many clusters and this method, where that was chosen, and what was not exact."""
    if reason := why(clustering):
        screen.remark(f"{reason}.")
    if "chosen" in clustering.config:
        screen.remark(f"{clustering.config['chosen']['reason']}.")
    config = clustering.config
    if learned := config.get("learned"):
        n_edits = counted(learned["n_edits"], "edit")
        screen.remark(
            f"{config['method']} went on from version {learned['version']} and learned its "
            f"{n_edits} by hand; {counted(learned['n_images'], tables.noun(clustering))} that you "
            "placed yourself stayed there."
        )
    elif before := config.get("warm_start"):
        screen.remark(f"{config['method']} went on from version {before}.")
    if n_fitted := config.get("train_on"):
        screen.remark(
            f"{n_fitted:,} of {counted(len(clustering.rows), tables.noun(clustering))} were "
            f"fitted, drawn with seed {config['params']['random_state']}; the others went where "
            "that puts them."
        )
    if n_views := clustering.config.get("views"):
        screen.remark(f"Trained on {counted(n_views, 'augmented view')} of each image.")
    if found := clustering.config.get("neighbors"):
        screen.remark(
            f"Of each image's {found['k']} nearest, {found['recall']:.1%} were found, in lists of "
            "similar images; --neighbors exact compares all with all."
        )


def of_copies(clustering: Clustering) -> str:
    """Say how many images were fitted through another one; empty if none was."""
    n, n_copies = len(clustering.rows), tables.n_duplicates(clustering)
    return (
        f"{counted(n, tables.noun(clustering))}, {n_copies:,} of them copies or near-copies of "
        "others (fitted once each)."
        if n_copies
        else ""
    )
