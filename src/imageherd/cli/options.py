"""Options that several verbs share, so that each reads and means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imageherd.heads import HEADS

METHODS = tuple(HEADS)
DEFAULT_METHOD = "tsp"
# Named here, not taken from `backbones`, which imports too much for a quick help.
DEFAULT_BACKBONE = "efficientnet-lite0"

_SHOWING = "Output"

HerdArgument = Annotated[
    Path,
    typer.Argument(metavar="HERD", help="The herd: the folder that sort or embed made."),
]
_IMAGES = (
    "Where the images are: a folder, with the folders in it, an archive (.tar, .zip), a table "
    "(.parquet, .csv), a Hugging Face dataset on disk, an array (.npy, .npz)."
)
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help=f"{_IMAGES} Or vectors (.npy, .parquet), or texts (.txt).",
        show_default=False,
    ),
]
ImagesArgument = Annotated[str, typer.Argument(metavar="SOURCE", help=_IMAGES, show_default=False)]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        "--image-column",
        metavar="NAME",
        help="The column of a table, or the array of a file, that holds the images.",
        show_default="found",
    ),
]
_GIVEN = "Vectors and texts"
Tfidf = Annotated[
    bool,
    typer.Option(
        "--tfidf",
        help="SOURCE is a file with one text a line, perhaps after a label and a tab: its features "
        "are the tf-idf of the 2,000 most frequent words.",
        rich_help_panel=_GIVEN,
    ),
]
Vectors = Annotated[
    Path | None,
    typer.Option(
        "--vectors",
        metavar="FILE",
        help="Take the images' features from this file (.npy, .parquet), not from a backbone.",
        show_default=False,
        rich_help_panel=_GIVEN,
    ),
]
Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="With --vectors: a text file with the path of each vector's image, one a line.",
        show_default="the column key or path of a .parquet",
        rich_help_panel=_GIVEN,
    ),
]
VectorColumn = Annotated[
    str | None,
    typer.Option(
        "--vector-column",
        metavar="NAME",
        help="The column of a .parquet file that holds the vectors.",
        show_default="found",
        rich_help_panel=_GIVEN,
    ),
]
HerdOption = Annotated[
    Path | None,
    typer.Option(
        "--herd",
        metavar="DIR",
        help="Where the herd is kept.",
        show_default="NAME.herd here, for a source NAME",
    ),
]
NClusters = Annotated[
    str,
    typer.Option(
        "--n-clusters", metavar="auto|N", help="How many clusters to make; auto counts them."
    ),
]
Backbone = Annotated[
    str,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="What turns images into features: the bundled network, a name that `imageherd "
        "backbones` lists, a file net.onnx, a vision model by its hub name or folder, timm:NAME or "
        "open_clip:NAME/TAG.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="cls|pooled|mean-patch",
        help="What of the network stands for an image; several joined by +.",
        show_default="what its makers use",
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="torch|onnx|onnx-int8",
        help="What computes; onnx exports the network once and is faster on most CPUs.",
        show_default="torch",
    ),
]
Neighbors = Annotated[
    str,
    typer.Option(
        "--neighbors",
        metavar="auto|exact|approx",
        help="How to find each image's nearest: exactly, or most of them in less time; auto finds "
        "most where images are more than 50,000, on a GPU 2 million.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|mps",
        help="Where to compute; auto takes a GPU if there is one.",
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", metavar="N", min=0, help="The same seed gives the same result."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="How many images are decoded at the same time.",
        show_default="one a core",
    ),
]
MovedFrom = Annotated[
    Path | None,
    typer.Option(
        "--moved-from",
        metavar="OLD",
        help="Where SOURCE was when the herd was made; its images keep their clusters.",
        show_default=False,
    ),
]
ClusteringName = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="Which clustering of the herd."),
]
AsTrained = Annotated[
    bool,
    typer.Option(
        "--as-trained", help="Leave out what was edited by hand; names that you gave stay."
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON object; progress goes to stderr.",
        rich_help_panel=_SHOWING,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print the result only, no progress and no remarks.",
        rich_help_panel=_SHOWING,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="IMAGEHERD_DEBUG",
        help="Print the traceback of an error, and all warnings.",
        rich_help_panel=_SHOWING,
    ),
]
