"""``imageherd pretrain``: a network of one's own, trained on the images at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.pretraining.places import check_name, folder_of, is_first_process

METHODS = ("rotnet", "dino")

EXAMPLES = """\b
Examples:
  imageherd pretrain rotnet digits/ --out ./digits-net --size 28
  imageherd pretrain dino holiday/ --out holiday --network vit-small --size 224
  imageherd embed holiday/ --backbone holiday"""


def pretrain(
    method: Annotated[
        str, typer.Argument(metavar="rotnet|dino", help="How to train.", show_default=False)
    ],
    source: options.ImagesArgument,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="NAME|FOLDER",
            help="What the network is to be called, or the folder it is to be in; --backbone "
            "takes either.",
            show_default=False,
        ),
    ],
    network: Annotated[
        str,
        typer.Option(
            "--network",
            metavar="NAME",
            help="resnet18, resnet18-narrow, vgg4, vit-small, vit-tiny or vit-mini.",
        ),
    ] = "resnet18",
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            help="The side that images are resized to.",
            show_default="the first image's, at most 96",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            help="Passes over the images.",
            show_default="200 for rotnet, 100 for dino",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Images a step, over all devices.",
            show_default="128 for rotnet, 256 for dino",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            metavar="X",
            help="For a batch of 256, with dino. A few images in a few minutes need a higher one.",
            show_default="0.1 for rotnet, 0.0005 for dino",
        ),
    ] = None,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip/--no-flip",
            help="Whether views are mirrored: not where left and right differ, as in digits.",
        ),
    ] = True,
    recolor: Annotated[
        bool,
        typer.Option(
            "--recolor/--no-recolor",
            help="Whether dino's views differ in brightness and colours: not where these are what "
            "counts, nor for writing.",
        ),
    ] = True,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="CSV|folder|column:NAME",
            help="Labels by which to tell how good the features are after each epoch; nothing is "
            "trained or chosen by them.",
            show_default=False,
        ),
    ] = None,
    image_column: options.ImageColumn = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="32|bf16-mixed|16-mixed", help="Half precision saves time."
        ),
    ] = "32",
    devices: Annotated[
        int, typer.Option("--devices", metavar="N", min=1, help="How many GPUs to train on.")
    ] = 1,
    seed: options.Seed = 0,
    workers: options.Workers = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a backbone from nothing on your own images.

    Without labels: rotnet learns to tell by how much an image was turned, dino to give all views of
    an image one answer. It takes hours on a GPU; for photographs the ready backbones are better.
    Stopped, the same command goes on where it was.
    """
    first = is_first_process()
    folder = folder_of(out)
    with running(as_json=as_json, quiet=quiet or not first, debug=debug, herd=folder) as screen:
        checks.one_of("METHOD", method, METHODS)
        checks.device_name(device)
        check_name(out)
        found = checks.source(source, image_column)
        checks.only_images(source, found)

        from imageherd.pretraining import run
        from imageherd.pretraining.probe import labels_of_source

        checks.say_source(screen, source, found)
        config = run.pretrain(
            method,
            found,
            folder,
            network=network,
            size=size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            flip=flip,
            recolor=recolor,
            random_state=seed,
            device=device,
            precision=precision,
            devices=devices,
            workers=workers,
            labels=None if labels is None else lambda keys: labels_of_source(labels, found, keys),
            callback=lambda epoch: _say_epoch(screen, epoch),
        )
        if first:
            _say_result(screen, out, folder, config)


def _say_epoch(screen: Screen, epoch: dict[str, Any]) -> None:
    answers = ""
    if "entropy" in epoch:
        one, mean = epoch["entropy"], epoch["mean_entropy"]
        answers = f", entropy of an answer {one:.2f}, of the mean one {mean:.2f}"
    screen.remark(f"Epoch {epoch['epoch']}: loss {epoch['loss']:.4f}{answers}{_percent(epoch)}")


def _say_result(screen: Screen, out: str, folder: Path, config: dict[str, Any]) -> None:
    images, last = counted(config["n_images"], "image"), config["history"][-1]
    screen.remark(
        f"{config['settings']['network']}, {config['dim']} features, trained on {images} of "
        f"{config['settings']['size']} pixels: loss {last['loss']:.4f}{_percent(last)}."
    )
    if "at_random" in config:
        screen.remark(f"Before training{_percent(config['at_random'])}.")
    screen.remark(f"To use it: --backbone {shown(out)}")
    screen.line(shown(folder))
    screen.result({"folder": folder, "backbone": out, **config})


def _percent(entry: dict[str, Any]) -> str:
    share = entry.get("knn_accuracy")
    return "" if share is None else f", k-NN accuracy {100 * share:.1f} %"
