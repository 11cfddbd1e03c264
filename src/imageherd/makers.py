"""What makes a source's features: a backbone, or for texts and given vectors none."""

from __future__ import annotations

from pathlib import Path

from imageherd.backbones import DEFAULT_BACKBONE, Backbone, load_backbone
from imageherd.errors import ImageherdError
from imageherd.features.computed import Computed, GivenVectors, TextVectors
from imageherd.features.precision import FLOAT32, stored_as
from imageherd.features.store import read_manifest
from imageherd.features.tfidf import TFIDF, Tfidf
from imageherd.images.decode import UnreadableImageError
from imageherd.images.source import Source
from imageherd.images.texts import TextFile
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.images.vectors.with_vectors import WithVectors

Maker = Backbone | Computed
VECTORS = "vectors"


def load_maker(
    herd: Path,
    source: Source,
    backbone: str = DEFAULT_BACKBONE,
    device: str = "auto",
    dtype: str = FLOAT32,
) -> Maker:
    """Return what makes the features of a source.

    Parameters
    ----------
    herd : Path
        The herd they are for.
    source : Source
        Images; or a `VectorFile`, a `WithVectors` or a `TextFile`, which need no backbone: vectors
        become a feature set of their own, and the words of texts are learned from these.
    backbone : str, default="efficientnet-lite0"
        See `imageherd.backbones.load_backbone`. ``vectors:KEY`` and ``tfidf:KEY``, the names that
        a herd gives such feature sets, add vectors or texts to one that it has. That new vectors
        come from the model the others came from is yours to know.
    device : str, default="auto"
        Where a backbone runs.
    dtype : {"float32", "float16"}, default="float32"
        What the features are kept in; a set that is named by its key keeps to its own.

    Raises
    ------
    ImageherdError
        If the source and the name do not go together, or as `load_backbone`.
    """
    maker = _maker(herd, source, backbone, device)
    scheme, _, key = backbone.partition(":")
    if scheme in (VECTORS, TFIDF):
        dtype = read_manifest(herd / "features" / key)["dtype"]
    return stored_as(maker, dtype)


def _maker(herd: Path, source: Source, backbone: str, device: str) -> Maker:
    scheme, _, key = backbone.partition(":")
    folder = herd / "features" / key
    if isinstance(source, TextFile):
        _check_kind(source, backbone, scheme, TFIDF, "texts")
        tfidf = Tfidf.load(folder) if scheme == TFIDF else Tfidf.fit(_texts(source))
        return TextVectors(source, tfidf)
    if isinstance(source, VectorFile | WithVectors):
        _check_kind(source, backbone, scheme, VECTORS, "vectors")
        file = source if isinstance(source, VectorFile) else source.file
        position = None if isinstance(source, VectorFile) else source.position
        if scheme != VECTORS:
            return GivenVectors(file, position)
        known = read_manifest(folder)
        if file.dim != known["dim"]:
            raise ImageherdError(
                f"{file.name} holds vectors of {file.dim:,} numbers, the herd's features {key} "
                f"have {known['dim']:,}: they cannot come from one model."
            )
        return GivenVectors(file, position, known["identity"])
    refuse_images(backbone)
    return load_backbone(backbone, device=device)


def refuse_images(backbone: str) -> None:
    """Raise ImageherdError if a feature set's name says that no backbone makes it of images."""
    scheme, _, key = backbone.partition(":")
    if scheme in (VECTORS, TFIDF):
        what = "vectors that were given" if scheme == VECTORS else "tf-idf of texts"
        wanted = "vectors, or images with their vectors" if scheme == VECTORS else "texts"
        raise ImageherdError(
            f"The features {key} are {what}: no backbone makes them of images. Give {wanted}, "
            "or use other features."
        )


def feature_set_name(maker: Maker, backbone: str) -> str:
    """Return by what name `load_maker` finds again what made a feature set."""
    if not isinstance(maker, Computed):
        return backbone
    return f"{TFIDF if isinstance(maker, TextVectors) else VECTORS}:{maker.key}"


def _check_kind(source: Source, backbone: str, scheme: str, own: str, what: str) -> None:
    if scheme != own and backbone != DEFAULT_BACKBONE:
        raise ImageherdError(
            f"{source.name} holds {what}, of which {backbone} makes no features; leave the "
            "backbone out, or take other features."
        )


def _texts(source: TextFile) -> list[str]:
    texts = []
    for entry in source.scan():
        try:
            texts.append(source.text(entry.key))
        except UnreadableImageError:
            continue
    return texts
