"""The five papers' tables: their figures as data, and the recipes that make ours beside them."""

from __future__ import annotations

import difflib
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from imageherd.bench.datasets import TEST, TRAIN, prepare
from imageherd.bench.featuresets import CLASS, FeatureSet, HerdRows
from imageherd.bench.grid import Entry, Run, plan
from imageherd.bench.presets import presets
from imageherd.errors import ImageherdError
from imageherd.files import read_json

BACKBONES = {
    "DINO ViT-S/16": "facebook/dino-vits16",
    "DINO ViT-B/16": "facebook/dino-vitb16",
    "DINO ViT-B/8": "facebook/dino-vitb8",
    "DINO ResNet-50": "Ramos-Ramos/dino-resnet-50",
    "MSN ViT-L/16": "facebook/vit-msn-large",
    "MAE ViT-L/16": "facebook/vit-mae-large",
    "CLIP ViT-B/32": "openai/clip-vit-base-patch32",
    "CLIP ViT-L/14": "openai/clip-vit-large-patch14",
    "LAION-2B ViT-L/14": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
}
"""Hub name of each backbone of the recipes."""

TRAINING = "fit on train, score train"


@dataclass(frozen=True)
class Figure:
    """One number of a paper's table.

    Attributes
    ----------
    paper, table, row : str
        "tsp", "1", "TSP-ViT2".
    dataset : str
        Such as "cifar10"; see `imageherd.bench.datasets`.
    backbone : str or None
        Such as "DINO ViT-B/16"; None where the paper does not say, or the method has none.
    protocol : str
        What was fitted and what scored.
    metric : str
        "ACC", "NMI", "ARI" or "AMI".
    value : float
        Percent, as printed.
    std : float or None
        Standard deviation, where the paper gives one.
    """

    paper: str
    table: str
    row: str
    dataset: str
    backbone: str | None
    protocol: str
    metric: str
    value: float
    std: float | None = None


@dataclass(frozen=True)
class Step:
    """How we make a row of a paper's table.

    Parameters
    ----------
    method : str
        One of `imageherd.heads.HEADS`; its presets "paper" and that of the dataset's name apply.
    params : dict
        What the row changes.
    n_clusters : int, optional
        By default the number of classes.
    """

    method: str
    params: dict[str, Any] = field(default_factory=dict)
    n_clusters: int | None = None


_RAW_KMEANS = Step("kmeans", {"scaling": "none"})
_TEMI_ROWS = ("TEMI DINO ResNet-50", "TEMI DINO ViT-B/16", "TEMI MSN ViT-L/16")
_CPP = {"TEMI": Step("temi"), "CPP": Step("cpp")}

RECIPES: dict[str, dict[str, Step]] = {
    "tsp:1": {
        **{row: Step("tsp") for row in ("TSP-ResNet", "TSP-ViT1", "TSP-ViT2")},
        "TSP K-means": _RAW_KMEANS,
    },
    "tsp:2": {f"{k} neighbors": Step("tsp", {"n_neighbors": k}) for k in (5, 10, 15, 20, 25, 30)},
    "temi:1": {
        "k-means": _RAW_KMEANS,
        "SCAN, 50 heads": Step("temi", {"objective": "scan"}),
        "PMI, 1 head": Step("temi", {"objective": "pmi", "n_heads": 1}),
        "WMI, 1 head": Step("temi", {"objective": "wpmi", "n_heads": 1}),
        "PMI, 50 heads": Step("temi", {"objective": "pmi"}),
        "WPMI, 50 heads": Step("temi", {"objective": "wpmi"}),
        "TEMI, 50 heads": Step("temi"),
    },
    "temi:2": {row: Step("temi") for row in _TEMI_ROWS},
    "temi:3": {row: Step("temi", {"beta": 1.0}, 25_000) for row in _TEMI_ROWS},
    "temi:4": {"TSP": Step("tsp"), "TEMI": Step("temi")},
    "cpp:1": _CPP,
    "cpp:2": {
        "KMeans": _RAW_KMEANS,
        "EnSC": Step("ensc"),
        "SSC-OMP": Step("ssc-omp"),
        "Spectral Clustering": Step("spectral-pi"),
        "CPP": Step("cpp"),
    },
    "cpp:3": {"CPP": Step("cpp"), "KMeans": _RAW_KMEANS},
    "cpp:4": _CPP,
    "cpp:5": {"CPP": Step("cpp"), "KMeans": _RAW_KMEANS},
    "cpp:6": {"Random": Step("cpp", {"warm_start": False}), "Diversified": Step("cpp")},
    "scp:2": {
        "SCP-CLIP": Step("scp"),
        "SCP-DINO": Step("scp"),
        "CLIP (K-means)": _RAW_KMEANS,
    },
    "scp:3": {**_CPP, "SCP-CLIP": Step("scp"), "SCP-MIX": Step("scp")},
    "scp:4": {"all three terms": Step("scp")},
}
"""By paper and table: the rows we can make, and how."""

DEPARTURES = {
    "tsp": "Fitted on the training images, scored on the test images.",
    "temi": "Images go through the backbone's own preprocessing; TEMI squashes them to a square, "
    "which differs where they are not square already.",
    "scp": "A neighbor is the second view: augmented views are not stored.",
}
"""By paper: what the recipes do that the paper does not say, or does otherwise."""


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = read_json(Path(__file__).parent / "data" / "paper_tables.json")
    return found


def figures(table: str | None = None) -> list[Figure]:
    """Return the figures of a table such as "tsp:1", or of all tables."""
    found = [Figure(**entry) for entry in _data()["figures"]]
    return [f for f in found if table is None or f"{f.paper}:{f.table}" == table]


def notes(table: str, backbone: str | None = None) -> list[str]:
    """Return what must be known to compare with a table: the paper's gaps, our departures.

    `backbone` is the one taken in place of the paper's, if any.
    """
    paper = table.partition(":")[0]
    known = [_data()["papers"][paper], _data()["notes"].get(table), DEPARTURES.get(paper)]
    if backbone is not None:
        known.append(f"Ours are all on {backbone}, not on the backbones the table names.")
    return [note for note in known if note]


def recipe(table: str, dataset: str | None = None) -> list[Figure]:
    """Return the figures of a table that we can make.

    Parameters
    ----------
    table : str
        Paper and table, such as "tsp:1".
    dataset : str, optional
        Only those of this dataset.

    Raises
    ------
    ImageherdError
        If there is no such table or dataset in it, or no recipe for it.
    """
    printed = figures(table)
    if table not in RECIPES:
        close = difflib.get_close_matches(table, RECIPES, n=1)
        why = "is a table we have the figures of, but no recipe for" if printed else "is not known"
        meant = f" Did you mean {close[0]}?" if close and not printed else ""
        raise ImageherdError(f"--paper {table} {why}.{meant} Choose from: {', '.join(RECIPES)}.")
    ours = [f for f in printed if f.row in RECIPES[table]]
    has = list(dict.fromkeys(f.dataset for f in ours))
    if dataset is not None and dataset not in has:
        raise ImageherdError(f"{table} has no dataset {dataset}; it has {', '.join(has)}.")
    return [f for f in ours if dataset in (None, f.dataset)]


@dataclass
class Assembled:
    """A table ready to be run.

    Attributes
    ----------
    figures : list of Figure
        What the paper printed.
    runs : list of Run
        What is to be run; rows that differ in nothing we can tell apart share their runs.
    features : dict of Figure to str
        Name of the feature set a figure's runs are on.
    missing : dict of Figure to str
        Why a figure has no run.
    """

    figures: list[Figure]
    runs: list[Run] = field(default_factory=list)
    features: dict[Figure, str] = field(default_factory=dict)
    missing: dict[Figure, str] = field(default_factory=dict)


def assemble(
    table: str,
    data: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int],
    dataset: str | None = None,
    backbone: str | None = None,
    device: str = "auto",
) -> Assembled:
    """Find a table's datasets, embed them with its backbones, and list its runs.

    Parameters
    ----------
    table : str
        Such as "tsp:1".
    data : path
        Folder of the datasets; see `imageherd.bench.datasets`. A backbone is taken from its folder
        ``backbones/``, where it is there under the last part of its hub name.
    out : path
        Where herds and unpacked images are kept; embedding goes on where it stopped.
    seeds : sequence of int
        Seeds.
    dataset : str, optional
        Only this one.
    backbone : str, optional
        In place of the paper's; see `imageherd.backbones.load_backbone`.
    device : str, default="auto"
        Where the backbone runs.

    Raises
    ------
    ImageherdError
        If there is no such recipe.
    """
    done = Assembled(recipe(table, dataset))
    embedder = _Embedder(Path(data), Path(out).absolute(), device)
    cells = dict.fromkeys((f.row, f.dataset, f.backbone, f.protocol) for f in done.figures)
    for row, name, wanted, protocol in cells:
        mine = [f for f in done.figures if (f.row, f.dataset, f.backbone) == (row, name, wanted)]
        step = RECIPES[table][row]
        try:
            names = _names(backbone, wanted, Path(data))
            features = embedder.features(name, names, backbone or wanted, protocol)
            entry = Entry(row, step.method, _params(step, name))
            runs = plan([entry], [features], seeds, step.n_clusters)
            # With a backbone of the user's, rows that differ in theirs alone are one.
            done.runs += [run for run in runs if run not in done.runs]
            done.features |= dict.fromkeys(mine, features.name)
        except ImageherdError as error:
            done.missing |= dict.fromkeys(mine, str(error))
    return done


def _names(forced: str | None, wanted: str | None, data: Path) -> tuple[str, ...]:
    """Return the backbones to load: the user's, or the paper's from a folder or by hub name."""
    if forced is not None:
        return (forced,)
    if wanted is None:
        raise ImageherdError("The paper does not say which backbone; name one with --backbone.")
    hub = [BACKBONES[part] for part in wanted.split(" + ")]
    return tuple(str(here) if (here := _weights(data, name)).is_dir() else name for name in hub)


def _weights(data: Path, hub_name: str) -> Path:
    return data / "backbones" / hub_name.partition("/")[2]


def _params(step: Step, dataset: str) -> dict[str, Any]:
    known = presets(step.method)
    return {**known.get("paper", {}), **known.get(dataset, {}), **step.params}


class _Embedder:
    """Prepares each dataset once and embeds it once with each backbone; remembers what failed."""

    def __init__(self, data: Path, out: Path, device: str) -> None:
        self.data, self.out, self.device = data, out, device
        self.kept: dict[tuple[str, str], tuple[str, str] | ImageherdError] = {}

    def features(
        self, dataset: str, backbones: tuple[str, ...], shown: str | None, protocol: str
    ) -> FeatureSet:
        keys = [self._key(dataset, name) for name in backbones]
        herd = keys[0][0]
        coarse = dataset if dataset == "cifar20" else None

        def rows(split: str) -> HerdRows:
            return HerdRows(herd, tuple(key for _, key in keys), CLASS, split, coarse)

        score = None if protocol == TRAINING else rows(TEST)
        return FeatureSet(f"{dataset}, {shown}", rows(TRAIN), score)

    def _key(self, dataset: str, backbone: str) -> tuple[str, str]:
        """Return the herd and the key of a dataset's features, embedding what is missing."""
        if (dataset, backbone) not in self.kept:
            try:
                self.kept[dataset, backbone] = self._embed(dataset, backbone)
            except ImageherdError as error:
                self.kept[dataset, backbone] = error
        found = self.kept[dataset, backbone]
        if isinstance(found, ImageherdError):
            raise found
        return found

    def _embed(self, dataset: str, backbone: str) -> tuple[str, str]:
        from imageherd.herd import Herd

        folder = prepare(dataset, self.data, self.out)
        # CIFAR-20 has CIFAR-100's images: one herd serves both. A folder elsewhere is another herd,
        # or every image would be in one herd twice.
        name = "cifar100" if dataset == "cifar20" else dataset
        where = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
        herd = Herd(self.out / "herds" / f"{name}-{where}.herd")
        try:
            summary = herd.embed(folder, backbone=backbone, device=self.device)
        except ImageherdError as error:
            if backbone not in BACKBONES.values() or backbone not in str(error):
                raise
            here = _weights(self.data, backbone)
            raise ImageherdError(f"{error} For this table alone: put it at {here}.") from error
        if summary.n_unreadable:
            path, reason = summary.reasons[0]
            warnings.warn(
                f"Left out of {dataset}: {summary.n_unreadable:,} that cannot be read, such as "
                f"{path} ({reason}).",
                stacklevel=2,
            )
        return str(herd.path), herd.features().key
