"""Where a benchmark's features come from: plain files or a herd, whole or in two splits."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.heads.loop import generator

UNLABELLED = -1
CLASS = "class"


@dataclass(frozen=True)
class Loaded:
    """Rows of features and what class each is of.

    Attributes
    ----------
    X : ndarray of shape (n, d)
        Features; several spaces side by side where `blocks` is not None.
    y : ndarray of shape (n,), int64, or None
        Number of each row's class, -1 where a row has none; None without labels.
    blocks : tuple of int or None
        Columns of each feature space, where there are several.
    """

    X: NDArray[Any]
    y: NDArray[np.int64] | None
    blocks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of rows without reading their features.

    Attributes
    ----------
    n : int
        Rows.
    dims : tuple of int
        Columns of each feature space.
    y : ndarray of shape (n,), int64, or None
        As in `Loaded`.
    """

    n: int
    dims: tuple[int, ...]
    y: NDArray[np.int64] | None

    @property
    def n_classes(self) -> int | None:
        """Number of classes that occur; None without labels."""
        return None if self.y is None else len(np.unique(self.y[self.y != UNLABELLED]))


@dataclass(frozen=True)
class Files:
    """Features in ``.npy`` files.

    Parameters
    ----------
    X : tuple of str
        Files of shape (n, d) each, the same n; their columns lie side by side.
    y : str, optional
        File of shape (n,), integers or strings.
    """

    X: tuple[str, ...]
    y: str | None = None

    def facts(self) -> Facts:
        """Look at the files' headers and read the labels.

        Raises
        ------
        ImageherdError
            If a file is missing, no ``.npy`` file, or not of the shape and type described.
        """
        parts = [_matrix(path) for path in self.X]
        n = len(parts[0])
        for path, part in zip(self.X, parts, strict=True):
            if len(part) != n:
                raise ImageherdError(
                    f"{path} has {len(part):,} rows, {self.X[0]} has {n:,}; features side by side "
                    "are of the same images in the same order."
                )
        y = None if self.y is None else _labels(self.y, n, self.X[0])
        return Facts(n, tuple(part.shape[1] for part in parts), y)

    def load(self) -> Loaded:
        """Read the rows; a single file of features stays memory-mapped. Errors as for `facts`."""
        facts = self.facts()
        return _side_by_side([_matrix(path) for path in self.X], facts)

    def digest(self) -> str:
        """Return the SHA-256 of the files' contents."""
        digest = hashlib.sha256()
        for path in (*self.X, self.y or ""):
            digest.update(_file_digest(path) if path else b"none")
        return digest.hexdigest()


@dataclass(frozen=True)
class HerdRows:
    """Features that a herd holds.

    Parameters
    ----------
    herd : str
        Its folder.
    keys : tuple of str
        Keys of the feature sets; their columns lie side by side.
    labels : str, optional
        "folder" or a CSV file, as for `imageherd.evaluation.read_labels`; or "class": the folder
        right within `below`.
    below : str, default=""
        Only images in this folder of the herd's source, such as "train".
    dataset : str, optional
        A dataset whose superclasses stand for the labels; see `imageherd.bench.datasets`.
    """

    herd: str
    keys: tuple[str, ...]
    labels: str | None = None
    below: str = ""
    dataset: str | None = None

    def facts(self) -> Facts:
        """Look at the herd's items and labels.

        Raises
        ------
        ImageherdError
            If the herd, its features or the labels cannot be read, or no image is in `below`.
        """
        rows, paths = self._rows()
        return Facts(len(rows), tuple(s.dim for s in self._stores()), self._classes(paths))

    def load(self) -> Loaded:
        """Read the rows: 4 n d bytes. Errors as for `facts`."""
        rows, _ = self._rows()
        return _side_by_side([store.read(rows) for store in self._stores()], self.facts())

    def digest(self) -> str:
        """Return a SHA-256 of the shards' hashes, the rows and the classes."""
        rows, paths = self._rows()
        digest = hashlib.sha256(rows.tobytes())
        for key in self.keys:
            digest.update(_file_digest(str(Path(self.herd) / "features" / key / "manifest.json")))
        y = self._classes(paths)
        digest.update(b"none" if y is None else y.tobytes())
        return digest.hexdigest()

    def _stores(self) -> list[Any]:
        from imageherd.herd import Herd

        return [Herd(self.herd).features(key).store for key in self.keys]

    def _rows(self) -> tuple[NDArray[np.int64], list[str]]:
        from imageherd.herd import Herd

        herd = Herd(self.herd)
        rows = herd.features(self.keys[0]).rows
        for key in self.keys[1:]:
            rows = np.intersect1d(rows, herd.features(key).rows)
        paths: list[str] = herd.items()["path"].take(pa.array(rows)).to_pylist()
        if self.below:
            inside = [path.startswith(f"{self.below}/") for path in paths]
            rows = rows[np.array(inside, dtype=bool)]
            paths = [path for path, use in zip(paths, inside, strict=True) if use]
        if not paths:
            raise ImageherdError(
                f"{self.herd} holds no image{f' below {self.below}/' if self.below else ''} with "
                f"features {' and '.join(self.keys)}."
            )
        return rows, paths

    def _classes(self, paths: list[str]) -> NDArray[np.int64] | None:
        if self.labels is None:
            return None
        from imageherd.bench.datasets import superclass
        from imageherd.evaluation import read_labels

        if self.labels == CLASS:
            inside = [path.removeprefix(f"{self.below}/").split("/") for path in paths]
            found: list[str | None] = [parts[0] if len(parts) > 1 else None for parts in inside]
        else:
            found = read_labels(self.labels, paths)
        if self.dataset is not None:
            found = [name and superclass(self.dataset, name) for name in found]
        names = sorted({name for name in found if name is not None})
        codes = {name: i for i, name in enumerate(names)}
        return np.array([UNLABELLED if n is None else codes[n] for n in found], dtype=np.int64)


Part = Files | HerdRows


@dataclass(frozen=True)
class FeatureSet:
    """What the methods are fitted on and scored on.

    Parameters
    ----------
    name : str
        What it is called in the table.
    fit : Files or HerdRows
        The rows to fit.
    score : Files or HerdRows, optional
        The rows to predict and score; by default those fitted.
    train_fraction : float, optional
        Fit on this share of the rows, drawn once and the same for every method and seed, and
        score the others.
    """

    name: str
    fit: Part
    score: Part | None = None
    train_fraction: float | None = None

    def facts(self) -> Facts:
        """Return the facts of the rows to fit (before a `train_fraction` is taken).

        Raises
        ------
        ImageherdError
            If something cannot be read, the two parts do not have the same columns, or the split
            leaves too little of one.
        """
        fit = self.fit.facts()
        if self.score is not None:
            score = self.score.facts()
            if score.dims != fit.dims:
                raise ImageherdError(
                    f"{self.name}: the rows to fit have {_listed(fit.dims)} columns, the rows to "
                    f"score {_listed(score.dims)}; both must come from the same backbone."
                )
            return fit if fit.y is not None else Facts(fit.n, fit.dims, score.y)
        if self.train_fraction is not None:
            n_fit = self._n_fit(fit.n)
            if not 2 <= n_fit <= fit.n - 2:
                raise ImageherdError(
                    f"{self.name}: a fraction of {self.train_fraction} of {fit.n} rows leaves "
                    f"{n_fit} to fit and {fit.n - n_fit} to score; both need at least 2."
                )
        return fit

    def load(self) -> tuple[Loaded, Loaded | None]:
        """Return the rows to fit, and those to score where they are others."""
        fit = self.fit.load()
        if self.score is not None:
            return fit, self.score.load()
        if self.train_fraction is None:
            return fit, None
        order, n_fit = _shuffled(len(fit.X)), self._n_fit(len(fit.X))
        return _take(fit, np.sort(order[:n_fit])), _take(fit, np.sort(order[n_fit:]))

    def _n_fit(self, n: int) -> int:
        return round((self.train_fraction or 1.0) * n)

    def digest(self) -> str:
        """Return a SHA-256 of all that the rows hold and how they are split."""
        parts = [self.fit.digest(), self.score.digest() if self.score else "the same"]
        return hashlib.sha256(repr((*parts, self.train_fraction)).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return a form for another process; `from_json` takes it back."""
        parts = {
            name: part and {"kind": type(part).__name__, **asdict(part)}
            for name, part in (("fit", self.fit), ("score", self.score))
        }
        return {"name": self.name, "train_fraction": self.train_fraction, **parts}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FeatureSet:
        """Undo `to_json`."""
        fit, score = _part(value["fit"]), value["score"]
        return cls(value["name"], fit, score and _part(score), value["train_fraction"])


def _part(value: dict[str, Any]) -> Part:
    fields: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in value.items() if name != "kind"
    }
    return Files(**fields) if value["kind"] == "Files" else HerdRows(**fields)


def _side_by_side(parts: list[NDArray[Any]], facts: Facts) -> Loaded:
    if len(parts) == 1:
        return Loaded(parts[0], facts.y)
    X = np.concatenate([np.asarray(part, dtype=np.float32) for part in parts], axis=1)
    return Loaded(X, facts.y, facts.dims)


def _listed(dims: tuple[int, ...]) -> str:
    return " + ".join(map(str, dims))


def _shuffled(n: int) -> NDArray[np.int64]:
    import torch

    order: NDArray[np.int64] = torch.randperm(n, generator=generator(0)).numpy()
    return order


def _take(loaded: Loaded, rows: NDArray[np.int64]) -> Loaded:
    return Loaded(
        np.asarray(loaded.X[rows]), None if loaded.y is None else loaded.y[rows], loaded.blocks
    )


def _array(path: str) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise ImageherdError(f"{path} does not exist.") from error
    except (ValueError, EOFError) as error:
        raise ImageherdError(
            f"{path} is no plain NumPy file; write it with numpy.save from an array of numbers."
        ) from error
    if not isinstance(found, np.ndarray):
        raise ImageherdError(f"{path} is an archive of arrays (.npz); give one .npy file.")
    return found


def _matrix(path: str) -> NDArray[Any]:
    X = _array(path)
    if X.ndim != 2 or X.dtype.kind not in "fiu" or 0 in X.shape:
        raise ImageherdError(
            f"{path} holds {X.dtype} of shape {X.shape}; features are numbers of shape (n, d)."
        )
    return X


def _labels(path: str, n: int, of: str) -> NDArray[np.int64]:
    y = _array(path)
    if y.ndim != 1 or y.dtype.kind not in "iubUS":
        raise ImageherdError(
            f"{path} holds {y.dtype} of shape {y.shape}; labels are integers or strings of shape "
            "(n,)."
        )
    if len(y) != n:
        raise ImageherdError(f"{path} has {len(y):,} labels, {of} has {n:,} rows.")
    return np.unique(np.asarray(y), return_inverse=True)[1].astype(np.int64)


def _file_digest(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
