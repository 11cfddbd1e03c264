"""``imageherd embed``: images to features."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from imageherd.cli import checks, given, options, tables
from imageherd.cli import engine as engines
from imageherd.cli.screen import counted, duration, shown
from imageherd.cli.session import running

EXAMPLES = """\b
Examples:
  imageherd embed holiday/
  imageherd embed holiday.zip
  imageherd embed train.parquet --image-column photo
  imageherd embed holiday/ --vectors clip.npy --keys paths.txt
  imageherd embed --tfidf texts.txt
  imageherd embed holiday/ --herd holiday.herd --backbone dinov2-small --output cls+mean-patch
  imageherd embed /data/photos --engine ray --address auto"""


def embed(
    source: options.SourceArgument,
    herd: options.HerdOption = None,
    backbone: options.Backbone = options.DEFAULT_BACKBONE,
    output: options.Output = None,
    runtime: options.Runtime = None,
    tfidf: options.Tfidf = False,
    vectors: options.Vectors = None,
    keys: options.Keys = None,
    vector_column: options.VectorColumn = None,
    views: Annotated[
        int,
        typer.Option(
            "--views",
            metavar="V",
            min=0,
            max=1000,
            help="Embed V augmented views of each image, too (crop, blur), for cluster --method "
            "scp; each takes as long as the image. Only those missing are made.",
        ),
    ] = 0,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="float32|float16",
            help="What features are kept in: float16 takes half the disk, and rounds to 3 digits. "
            "The two are different features of a herd.",
        ),
    ] = "float32",
    moved_from: options.MovedFrom = None,
    image_column: options.ImageColumn = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    engine: engines.Engine = engines.LOCAL,
    address: engines.Address = None,
    actors: engines.Actors = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Turn images or texts into features; those there are, are kept.

    Later verbs use the features embedded last.
    """
    home = herd or checks.default_herd(moved_from or source)
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=home) as screen:
        from imageherd.backbones.spec import parse_spec
        from imageherd.features.precision import DTYPES

        checks.device_name(device)
        checks.one_of("--dtype", dtype, DTYPES)
        ray = engines.chosen(engine, address, actors)
        backbone = parse_spec(backbone, output=output, runtime=runtime).name
        said: dict[str, Any] = {"tfidf": tfidf, "vectors": vectors, "keys": keys}
        found = given.source(source, image_column, **said, vector_column=vector_column)
        checks.new_or_own_herd(herd, source, found, moved_from)
        checks.say_source(screen, source, found)

        from imageherd.device import resolve_device
        from imageherd.herd import Herd

        if ray is None:
            resolve_device(device)
        kept = Herd(home)
        how: dict[str, Any] = {"backbone": backbone, "device": device, "workers": workers}
        how["dtype"] = dtype
        # Measured here, which says nothing of a cluster.
        seconds = 0.0 if ray else kept.estimate(found, moved_from=moved_from, **how)
        if seconds:
            screen.remark(f"Embedding will take about {duration(seconds * (1 + views))}.")
        summary = kept.embed(found, moved_from=moved_from, views=views, engine=ray, **how)
        lacking = "without a vector" if vectors else "unreadable"
        screen.remark(tables.embed_line(summary, found.uri, lacking))
        if views:
            screen.remark(f"{counted(summary.n_views, 'view')} made now, {views} an image.")
        bad = tables.unreadable(kept.items())
        tables.unreadable_lines(screen, bad, found.uri)
        screen.line(shown(home))
        screen.result(
            {
                "herd": home,
                "features": kept.features().key,
                "images": tables.embed_as_json(summary),
                "unreadable": tables.unreadable_as_json(bad),
            }
        )
