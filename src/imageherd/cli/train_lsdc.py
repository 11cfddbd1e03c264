"""``imageherd train-lsdc``: a network and the clusters in one, trained on the images themselves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from imageherd.cli import checks, options, tables
from imageherd.cli.cluster import of_copies
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError
from imageherd.pretraining.places import check_name, folder_of

PRESETS = ("cifar10", "cifar20", "stl10", "mnist")
LABELINGS = ("knn", "sne", "cosine", "l2")
COMPOSITIONS = ("ricap", "mixup", "none")

EXAMPLES = """\b
Examples:
  imageherd train-lsdc digits/ --start ./turned --n-clusters 10 --preset mnist --out ./clustered
  imageherd train-lsdc photos.tar --start turned --n-clusters 20 --out clustered
where ./turned is from
  imageherd pretrain rotnet digits/ --network vgg4 --epochs 4 --out ./turned"""


def train_lsdc(
    source: options.ImagesArgument,
    start: Annotated[
        str,
        typer.Option(
            "--start",
            metavar="NAME|FOLDER",
            help="The network to begin with, a resnet18 or vgg4 that pretrain made.",
            show_default=False,
        ),
    ],
    n_clusters: Annotated[
        int,
        typer.Option(
            "--n-clusters", metavar="N", min=2, help="How many clusters.", show_default=False
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="NAME|FOLDER",
            help="What the trained network is to be called, or the folder it is to be in; "
            "--backbone takes either.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="|".join(PRESETS),
            help="The paper's settings for a dataset; for vectors and texts there is "
            "cluster --method lsdc.",
            show_default="settings for unknown images",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            min=1,
            help="Passes over the images; schedules keep their shape.",
            show_default="the preset's, else 100; more where images are few",
        ),
    ] = None,
    labeling: Annotated[
        str | None,
        typer.Option(
            "--labeling",
            metavar="|".join(LABELINGS),
            help="What makes two images of a batch close.",
            show_default="the preset's, else knn",
        ),
    ] = None,
    composition: Annotated[
        str | None,
        typer.Option(
            "--composition",
            metavar="|".join(COMPOSITIONS),
            help="How composites of images are made.",
            show_default="ricap",
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Whether an image and its mirror image are of a kind: not for digits or text.",
            show_default="the preset's, else flip",
        ),
    ] = None,
    herd: options.HerdOption = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What the clustering is to be called.")
    ] = "lsdc",
    image_column: options.ImageColumn = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="32|bf16-mixed|16-mixed", help="Half precision saves time."
        ),
    ] = "32",
    seed: options.Seed = 0,
    workers: options.Workers = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a pretrained network to cluster images (LSD-C).

    Keeps the network as a backbone, and what it finds as a clustering of a herd. It takes hours on
    a GPU, minutes for small images; for photographs the ready backbones are better. Stopped, the
    same command goes on where it was.
    """
    home = herd or checks.default_herd(source)
    folder = folder_of(out)
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=folder) as screen:
        checks.device_name(device)
        check_name(out)
        params = _params(preset, labeling, composition)
        params |= {} if flip is None else {"flip": flip}
        # So many as were said, however few the images are.
        params |= {} if epochs is None else {"epochs": epochs, "min_steps": 0}
        begun = _network(start)
        found = checks.source(source, image_column)
        checks.only_images(source, found)
        checks.new_or_own_herd(herd, source, found)
        if n_clusters > (n := checks.say_source(screen, source, found)):
            raise ImageherdError(
                f"--n-clusters {n_clusters} is more than the {n:,} images there are; give fewer."
            )

        from imageherd.heads.base import CollapseWarning
        from imageherd.herd import Herd
        from imageherd.pretraining.lsdc_run import train_lsdc as train

        with warnings.catch_warnings():
            # The clustering tells it too.
            warnings.simplefilter("ignore", CollapseWarning)
            config = train(
                *(found, begun, folder, n_clusters),
                preset=preset,
                workers=workers,
                callback=lambda epoch: _say_epoch(screen, epoch),
                random_state=seed,
                device=device,
                precision=precision,
                **params,
            )
        kept = Herd(home)
        kept.embed(found, backbone=str(folder.resolve()), device=device, workers=workers)
        clustering = kept.cluster(
            "trained", name=name, network=str(folder.resolve()), device=device
        )
        if copies := of_copies(clustering):
            screen.remark(copies)
        tables.cluster_table(screen, clustering, f"imageherd name {shown(home)} --name {name}")
        screen.remark()
        screen.remark(f"To use the network: --backbone {shown(out)}")
        screen.remark(f"To look at the clusters: imageherd report {shown(home)} --name {name}")
        screen.result(
            {
                "folder": folder,
                "backbone": out,
                "herd": home,
                "clustering": tables.clustering_as_json(clustering),
                "history": config["history"],
            }
        )


def _params(preset: str | None, labeling: str | None, composition: str | None) -> dict[str, Any]:
    if preset is not None:
        checks.one_of("--preset", preset, PRESETS)
    params: dict[str, Any] = {}
    if labeling is not None:
        params["labeling"] = checks.one_of("--labeling", labeling, LABELINGS)
    if composition is not None:
        checks.one_of("--composition", composition, COMPOSITIONS)
        params["composition"] = None if composition == "none" else composition
    return params


def _network(start: str) -> Path:
    from imageherd.backbones.own import own_folder

    folder = own_folder(start)
    if folder is None:
        raise ImageherdError(
            f"--start {start} is no network of yours; make one first: imageherd pretrain rotnet "
            "SOURCE --out NAME"
        )
    return folder


def _say_epoch(screen: Screen, epoch: dict[str, Any]) -> None:
    used = counted(round(epoch["used_clusters"]), "cluster")
    screen.remark(f"Epoch {epoch['epoch']}: loss {epoch['loss']:.4f}, {used} used")
