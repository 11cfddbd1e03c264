"""``imageherd assign``: new images into clusters that are there."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, given, options
from imageherd.cli import engine as engines
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.assignment import Assignment

EXAMPLES = """\b
Examples:
  imageherd assign holiday.herd new-photos/
  imageherd assign holiday.herd new-photos/ --reject 0.05 --output placed.csv
  imageherd assign holiday.herd /data/photos --engine ray --address auto"""

FEW = 10
NOWHERE = -1


def assign(
    herd: options.HerdArgument,
    source: options.SourceArgument,
    reject: Annotated[
        float,
        typer.Option(
            "--reject",
            metavar="SHARE",
            help="Set an image aside if it lies farther out than all but this share of the "
            "clustered ones; 0 places every image.",
        ),
    ] = 0.01,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="CSV",
            help="Write path, cluster, probability and similarity of each new image.",
        ),
    ] = None,
    vectors: options.Vectors = None,
    keys: options.Keys = None,
    vector_column: options.VectorColumn = None,
    name: options.ClusteringName = "default",
    workers: options.Workers = None,
    device: options.Device = "auto",
    engine: engines.Engine = engines.LOCAL,
    address: engines.Address = None,
    actors: engines.Actors = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Place new images in the clusters of a herd.

    An image that fits none of them is set aside. The clusters stay as they are; the new images
    become part of the herd.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        if not 0 <= reject < 1:
            raise ImageherdError(f"--reject {reject} is out of range; give 0 or more, less than 1.")
        checks.device_name(device)
        ray = engines.chosen(engine, address, actors)
        checks.existing_herd(herd)
        new = given.source(source, vectors=vectors, keys=keys, vector_column=vector_column)
        if output is not None and output.exists():
            raise ImageherdError(f"{shown(output)} exists already; name another file.")

        checks.say_source(screen, source, new)

        from imageherd.device import resolve_device
        from imageherd.herd import Herd
        from imageherd.sources import noun_of

        if ray is None:
            resolve_device(device)
        kept = Herd(herd)
        how: dict[str, Any] = {"device": device, "workers": workers, "engine": ray}
        found = kept.assign(new, name=name, reject=reject, **how)
        names = kept.clustering(name).names()
        paths = kept.items()["path"].take(found.rows).to_pylist()
        placed = [
            {
                "path": path,
                "uid": int(uid),
                "cluster": names[int(uid)],
                "probability": round(float(probability), 6),
                "similarity": round(float(similarity), 6),
            }
            for path, uid, probability, similarity in zip(
                paths, found.uids, found.probability, found.similarity, strict=True
            )
        ]
        if output is not None:
            _write_csv(output, placed)
        _print(screen, found, placed, noun_of([new.uri]))
        if output is not None:
            screen.line(shown(output))
        screen.result(
            {"herd": herd, "threshold": found.threshold, "images": placed, "output": output}
        )


def _print(screen: Screen, found: Assignment, placed: list[dict[str, Any]], noun: str) -> None:
    if not placed:
        screen.remark(f"Nothing new: every {noun} of the herd that can be read has its place.")
        return
    sizes = Counter(image["cluster"] for image in placed if image["uid"] != NOWHERE)
    nowhere = [image for image in placed if image["uid"] == NOWHERE]
    nowhere.sort(key=lambda image: image["similarity"])
    screen.table(
        ("cluster", f"new {noun}s"),
        [*sizes.most_common(), *([("fits nowhere", len(nowhere))] if nowhere else [])],
        left=("cluster",),
    )
    if nowhere:
        screen.remark()
        screen.remark(f"{counted(len(nowhere), noun)} fit nowhere:", style="yellow")
        for image in nowhere[:FEW]:
            screen.remark(f"  {image['path']} (similarity {image['similarity']:.2f})")
        if len(nowhere) > FEW:
            screen.remark(f"  and {len(nowhere) - FEW:,} more; --output lists them all")


def _write_csv(path: Path, placed: list[dict[str, Any]]) -> None:
    from imageherd.files import write_atomically

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("path", "uid", "cluster", "probability", "similarity"))
    writer.writeheader()
    writer.writerows(placed)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
