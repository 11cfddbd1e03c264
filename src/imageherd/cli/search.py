"""``imageherd search``: what looks like this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.search_space import Hits

EXAMPLES = """\b
Examples:
  imageherd search holiday.herd --image shoe.jpg --sheet shoes.html
  imageherd search holiday.herd --item 2024/beach.jpg -n 10
  imageherd search holiday.herd --text "a red shoe\""""

BY = ("features", "head")
# Characters of a text: two or three lines of a terminal.
LINE = 80


def search(
    herd: options.HerdArgument,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Search for an image file.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="WORDS",
            help="Search for what a text says; the herd needs features of a CLIP or SigLIP model, "
            "or of texts.",
        ),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(
            "--item",
            metavar="ROW|PATH",
            help="Search for what is like one of the herd: its row, or its path in it.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="|".join(BY),
            help="What is compared: the backbone's features, or what the clustering's head makes "
            "of them (cpp, lsdc, scp, temi).",
        ),
    ] = "features",
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many to find.")] = 64,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.html", help="Write the pictures as one HTML file."),
    ] = None,
    name: options.ClusteringName = "default",
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Find what is most like an image or a text.

    Prints rank, cosine similarity, cluster and path, nearest first.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        if sum(given is not None for given in (image, text, item)) != 1:
            raise ImageherdError("Say what to search for: one of --image, --text and --item.")
        checks.one_of("--by", by, BY)
        checks.device_name(device)
        checks.existing_herd(herd)

        from imageherd.device import resolve_device
        from imageherd.herd import Herd
        from imageherd.report.gather import texter
        from imageherd.search import cluster_names
        from imageherd.search_sheet import check_sheet, write_sheet
        from imageherd.sources import sources_of

        resolve_device(device)
        if sheet is not None:
            check_sheet(sheet)
        kept = Herd(herd)
        row: int | str | None = item
        # With zeros before it a number is the key of a vector or of a line of text.
        if item is not None and item.isdecimal() and str(int(item)) == item:
            row = int(item)
        hits = kept.search(image=image, text=text, item=row, by=by, n=n, name=name, device=device)
        # Features are enough to search; only names want a clustering.
        made = name != "default" or (herd / "clusterings" / name / "current.json").exists()
        names = cluster_names(hits.rows, kept.clustering(name)) if made else [None] * len(hits.rows)
        items = kept.items()
        words = texter(items.take(hits.rows), sources_of(herd))
        found = [
            {"rank": rank, "similarity": similarity, "row": row, "cluster": cluster, "path": path}
            | ({} if words(rank - 1) in (None, path) else {"text": words(rank - 1)})
            for rank, (similarity, row, cluster, path) in enumerate(
                zip(
                    hits.similarity.tolist(),
                    hits.rows.tolist(),
                    names,
                    items["path"].take(hits.rows).to_pylist(),
                    strict=True,
                ),
                start=1,
            )
        ]
        _print(screen, hits, found)
        if sheet is not None:
            write_sheet(sheet, hits, names, items, sources_of(herd), image=image, text=text)
            screen.line(shown(sheet))
        screen.result(
            {
                "herd": herd,
                "features": hits.key,
                "by": by,
                "recall": hits.recall,
                "images": found,
                "sheet": sheet,
            }
        )


def _print(screen: Screen, hits: Hits, found: list[dict[str, Any]]) -> None:
    from imageherd.images.texts import excerpt

    if not found:
        screen.remark("Nothing else in this herd has features.")
        return
    clustered = any(image["cluster"] for image in found)
    screen.table(
        ("rank", "similarity", *(["cluster"] if clustered else []), "path"),
        (
            (
                image["rank"],
                f"{image['similarity']:.3f}",
                *([image["cluster"]] if clustered else []),
                " ".join(filter(None, (image["path"], excerpt(image.get("text", ""), LINE)))),
            )
            for image in found
        ),
        left=("cluster", "path"),
    )
    if hits.recall is not None:
        screen.remark(
            f"Through an index; of the exact nearest 64 it finds {hits.recall:.1%}, measured on "
            "256 images of this herd."
        )
