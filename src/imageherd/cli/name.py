"""``imageherd name``: what the clusters are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.clustering import Cluster, Clustering
    from imageherd.herd import Herd

EXAMPLES = """\b
Examples:
  imageherd name holiday.herd
  imageherd name holiday.herd --rename 3="Beach at night" --rename 7=Grandma
  imageherd name holiday.herd --why 3
  imageherd name holiday.herd --clip openai/clip-vit-base-patch32 --texts words.txt"""

_VOTING = "Voting anew"


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
    why: Annotated[
        int | None,
        typer.Option(
            "--why",
            metavar="UID",
            help="Show why this cluster is called what it is: which images voted for it.",
            show_default=False,
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            "--clip",
            metavar="MODEL",
            help="Vote anew with this CLIP or SigLIP model, a hub name or a folder.",
            show_default=False,
            rich_help_panel=_VOTING,
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts",
            metavar="imagenet|FILE|wordnet:PATH",
            help="With --clip: the names to choose from; a file has one a line.",
            show_default="imagenet",
            rich_help_panel=_VOTING,
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help='With --clip: what the model reads, "{}" for the name.',
            show_default="a photo of a {}",
            rich_help_panel=_VOTING,
        ),
    ] = None,
    prototypes: Annotated[
        int | None,
        typer.Option(
            "--prototypes",
            metavar="N",
            min=1,
            help="With --clip: the most typical images of a cluster that vote, where the herd has "
            "no features of the model.",
            show_default="32",
            rich_help_panel=_VOTING,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="cosine|softmax",
            help="With --clip: what an image adds to its five best names, as in the paper or as "
            "in its code.",
            show_default="cosine",
            rich_help_panel=_VOTING,
        ),
    ] = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew",
            help="Let the ImageNet classes that the images look like vote again, as at first.",
            rich_help_panel=_VOTING,
        ),
    ] = False,
    device: options.Device = "auto",
    name: options.ClusteringName = "default",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show what the clusters are called, or call them otherwise.

    A name of your own is kept when the clustering is made anew or the images vote again. "share" is
    the name's part of the cluster's votes, "lift" how many times as large that is as in the
    clusters' mean.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        checks.device_name(device)
        new_names = _renames(rename or [])
        given = {"texts": texts, "prompt": prompt, "prototypes": prototypes, "weights": weights}
        asked = {key: value for key, value in given.items() if value is not None}
        _check(clip, asked, anew)

        from imageherd.herd import Herd

        kept = Herd(herd)
        clustering = kept.clustering(name)
        for uid in [*new_names, *([] if why is None else [why])]:
            # All of them before the first is changed: a typo must not leave half a renaming.
            clustering.cluster(uid)
        if clip is not None or anew:
            clustering = kept.name(clip, name=name, **asked, device=device)
        for uid, text in new_names.items():
            clustering = kept.rename(uid, text, name=name)
        result: dict[str, Any] = {"herd": herd, "clustering": _as_json(clustering)}
        if why is None:
            _table(screen, clustering)
        else:
            result["why"] = _explain(screen, kept, clustering.cluster(why), clustering)
        if new_names or clip is not None or anew:
            chosen = "" if name == "default" else f" --name {name}"
            screen.remark()
            screen.remark(f"To have it in the report: imageherd report {shown(herd)}{chosen}")
        screen.result(result)


def _check(clip: str | None, asked: dict[str, Any], anew: bool) -> None:
    if anew and clip is not None:
        raise ImageherdError(
            "--anew lets the classifier vote and --clip a model; give one of them."
        )
    if asked and clip is None:
        raise ImageherdError(
            f"--{next(iter(asked))} is for a vote with --clip MODEL; name a model, such as "
            "openai/clip-vit-base-patch32."
        )
    checks.one_of("--weights", asked.get("weights", "cosine"), ("cosine", "softmax"))


def _table(screen: Screen, clustering: Clustering) -> None:
    screen.table(
        ("uid", "name", f"{tables.noun(clustering)}s", "share", "lift", "runner-up"),
        (
            (
                c.uid,
                c.name,
                f"{c.size:,}",
                None if c.share is None else f"{c.share:.0%}",
                None if c.lift is None else f"{c.lift:.1f}",
                c.runner_up,
            )
            for c in clustering.clusters
        ),
        left=("name", "runner-up"),
    )


def _explain(
    screen: Screen, herd: Herd, cluster: Cluster, clustering: Clustering
) -> dict[str, Any]:
    """Say why a cluster is called what it is; returns the same for machines."""
    naming = clustering.config.get("naming", {"by": "the classifier", "texts": "imagenet"})
    value: dict[str, Any] = {"uid": cluster.uid, "name": cluster.name, "naming": naming}
    if cluster.evidence is None or cluster.winner is None or cluster.share is None:
        screen.line(
            f"No vote is kept for {cluster.name}: nothing could vote when it was named, or it "
            "was named before votes were kept."
        )
        screen.remark(
            f"To let the images vote: imageherd name {shown(herd.path)} --anew, or --clip MODEL"
        )
        return {**value, "evidence": []}
    from imageherd.versions import versions_of

    if cluster.uid in versions_of(herd.path, clustering.name).given_names():
        screen.line(f"{cluster.name} is a name given by hand; the images voted for:")
    screen.line(
        f"{cluster.winner}: {cluster.share:.0%} of the votes, {cluster.lift:.1f} times the "
        f"clusters' mean; {counted(cluster.voters or 0, 'image')} voted for it."
    )
    if cluster.runner_up is not None:
        more = (cluster.runner_up_share or 0) > cluster.share
        elsewhere = " (more votes, but more special to another cluster)" if more else ""
        share = f"{cluster.runner_up_share or 0:.0%}"
        screen.line(f"Or {cluster.runner_up}: {share} of the votes{elsewhere}.")
    screen.line(f"By {naming['by']}, of the candidates {naming['texts']}. Most for it:")
    paths = [herd.items()["path"][row].as_py() for row in cluster.evidence]
    for path in paths:
        screen.line(f"  {path}")
    evidence = [{"row": r, "path": p} for r, p in zip(cluster.evidence, paths, strict=True)]
    return {**value, "evidence": evidence}


def _as_json(clustering: Clustering) -> dict[str, Any]:
    value = tables.clustering_as_json(clustering)
    for entry, c in zip(value["clusters"], clustering.clusters, strict=True):
        entry |= {"lift": c.lift, "winner": c.winner, "voters": c.voters, "evidence": c.evidence}
    return value


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
