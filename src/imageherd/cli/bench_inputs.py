"""What `bench` is given: seeds, methods with their parameters, and feature sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from imageherd.cli import checks, options
from imageherd.cli.screen import shown
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.bench.featuresets import FeatureSet
    from imageherd.bench.grid import Entry


def read_seeds(text: str) -> list[int]:
    """Read --seeds: how many, or which, each followed by a comma or the end."""
    listed = "," in text
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        numbers = [-1]
    if not listed and numbers[0] > 0:
        return list(range(numbers[0]))
    if not listed or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ImageherdError(
            f"--seeds {text} cannot be done; say how many (5) or which ones, each once (0,3,7)."
        )
    return numbers


def check_outputs(out: Path, csv: Path | None, markdown: Path | None) -> None:
    """Refuse names that cannot be written before anything slow begins."""
    if out.exists() and not out.is_dir():
        raise ImageherdError(f"{shown(out)} is a file; name a folder with --out.")
    for option, path, ending in (("--csv", csv, ".csv"), ("--markdown", markdown, ".md")):
        if path is not None and (path.suffix.lower() != ending or path.is_dir()):
            raise ImageherdError(f"{option} {shown(path)}: give the name of a file in {ending}.")


def _check_names(names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ImageherdError(
            f"Two feature sets are called {', '.join(sorted(twice))}; give each a name of its own: "
            "NAME=..."
        )


def read_entries(methods: list[str], params: list[str]) -> list[Entry]:
    """Read --method and --param."""
    from imageherd.bench.grid import Entry
    from imageherd.bench.presets import preset

    expanded = [m for text in methods for m in (options.METHODS if text == "all" else (text,))]
    entries: dict[str, Entry] = {}
    for text in expanded:
        label, equals, chosen = text.partition("=")
        name, _, wanted = (chosen if equals else text).partition(":")
        checks.one_of("--method", name, (*options.METHODS, "all"))
        if name == "all":
            raise ImageherdError("--method all stands alone: it has neither label nor preset.")
        if label in entries:
            raise ImageherdError(f"--method {label} is there twice; tell them apart: LABEL={name}.")
        entries[label] = Entry(label, name, preset(name, wanted) if wanted else {})
    for text in params:
        label = _label_of(text, list(entries))
        found = checks.parameters(entries[label].method, [text[len(label) + 1 :]])
        entries[label].params.update(found)
    return list(entries.values())


def _label_of(text: str, labels: list[str]) -> str:
    """Return the longest label that `text` (``LABEL.key=value``) begins with."""
    fitting = [label for label in labels if text.startswith(f"{label}.")]
    if fitting:
        return max(fitting, key=len)
    before, dot, _ = text.partition("=")[0].rpartition(".")
    if not dot:
        raise ImageherdError(
            f"--param {text} does not say of which method; write it METHOD.KEY=VALUE, such as "
            f"{labels[0]}.{text}."
        )
    return checks.one_of("--param of", before, labels)


def read_feature_sets(
    texts: list[str], labels: str | None, fraction: float | None
) -> list[FeatureSet]:
    """Read the FEATURES arguments.

    Raises
    ------
    ImageherdError
        If there is none, one is not a herd nor files, or two have one name.
    """
    if not texts:
        raise ImageherdError("Give at least one herd or NAME=X.npy,y.npy, or --paper.")
    found = [one for text in texts for one in _feature_sets(text, labels, fraction)]
    _check_names([one.name for one in found])
    if labels is not None and all(text.endswith(".npy") for text in texts):
        raise ImageherdError("--labels is for herds; name the labels of files: NAME=X.npy,y.npy.")
    return found


def _feature_sets(text: str, labels: str | None, fraction: float | None) -> list[FeatureSet]:
    if fraction is not None and not 0 < fraction < 1:
        raise ImageherdError(f"--train-fraction {fraction} is out of range; give one of 0 to 1.")
    name, equals, rest = text.partition("=")
    files = (rest if equals else text).split(",")
    if files[0].endswith(".npy"):
        return [_plain_files(text, name if equals else Path(files[0]).stem, files, fraction)]
    return _of_herd(Path(rest if equals else text), name if equals else "", labels, fraction)


def _plain_files(text: str, name: str, files: list[str], fraction: float | None) -> FeatureSet:
    from imageherd.bench.featuresets import FeatureSet, Files

    if len(files) > 4 or not name or not all(f.endswith(".npy") for f in files[::2]):
        raise ImageherdError(
            f"{text} is not read; write NAME=X.npy, NAME=X.npy,y.npy or "
            "NAME=X-train.npy,y-train.npy,X-test.npy,y-test.npy."
        )
    parts = [
        Files(
            tuple(os.fspath(Path(x).absolute()) for x in X.split("+")),
            os.fspath(Path(y[0]).absolute()) if y and y[0] else None,
        )
        for X, y in ((files[i], files[i + 1 : i + 2]) for i in range(0, len(files), 2))
    ]
    if len(parts) == 2 and fraction is not None:
        raise ImageherdError(f"{name} has rows to score of its own; leave --train-fraction out.")
    if len(parts) == 2:
        return FeatureSet(name, parts[0], parts[1])
    return FeatureSet(name, parts[0], train_fraction=fraction)


def _of_herd(path: Path, name: str, labels: str | None, fraction: float | None) -> list[FeatureSet]:
    from imageherd.bench.featuresets import FeatureSet, HerdRows
    from imageherd.project import read_project

    checks.existing_herd(path)
    backbones = read_project(path)["backbones"]
    if not backbones:
        raise ImageherdError(f"{shown(path)} has no features yet: imageherd embed PHOTOS")
    where = os.fspath(path.absolute())
    if labels not in (None, "folder"):
        labels = os.fspath(Path(str(labels)).absolute())
    return [
        FeatureSet(called, HerdRows(where, (key,), labels), train_fraction=fraction)
        for key, called in _set_names(name or path.stem, backbones).items()
    ]


def _set_names(herd: str, backbones: dict[str, str]) -> dict[str, str]:
    """Call the only feature set of a herd like the herd, else add the backbone, or the key."""
    if len(backbones) == 1:
        return dict.fromkeys(backbones, herd)
    short = {key: Path(backbone).name for key, backbone in backbones.items()}
    names = list(short.values())
    return {key: f"{herd}/{n if names.count(n) == 1 else key}" for key, n in short.items()}
