"""What `embed` and `assign` are given: images, images with vectors, vectors, or texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imageherd.cli import checks
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.features.listing import Listed


def source(
    given: str,
    image_column: str | None = None,
    *,
    tfidf: bool = False,
    vectors: Path | None = None,
    keys: Path | None = None,
    vector_column: str | None = None,
) -> Listed:
    """Open a source as the options say; by default as what it is.

    Parameters
    ----------
    given : str
        The argument SOURCE.
    image_column, tfidf, vectors, keys, vector_column
        The options of the same names.

    Raises
    ------
    ImageherdError
        If the options do not go together, or a file is not what it should be.
    """
    from imageherd.features.listing import Listed
    from imageherd.images.texts import TextFile
    from imageherd.images.vectors.vector_file import VectorFile
    from imageherd.images.vectors.with_vectors import WithVectors

    if tfidf and (vectors or keys or vector_column or image_column):
        raise ImageherdError("--tfidf is for texts, which have neither vectors nor columns.")
    if keys is not None and vectors is None:
        raise ImageherdError("--keys says whose the vectors are; give them with --vectors FILE.")
    if tfidf:
        return Listed(TextFile(given))
    if vectors is not None:
        found = checks.source(given, image_column)
        if isinstance(found.source, VectorFile | TextFile):
            raise ImageherdError(
                f"{given} holds no images that --vectors could belong to; leave it out."
            )
        return Listed(WithVectors(found.source, VectorFile(vectors, column=vector_column), keys))
    if vector_column is not None:
        return Listed(VectorFile(given, column=vector_column))
    return checks.source(given, image_column)
