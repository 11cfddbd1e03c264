"""Reading one image: bytes, content hash, decoding, preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imageherd.images.decode import UnreadableImageError, decode

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.images.source import Source


@dataclass(frozen=True)
class Job:
    """One image to read; `content_hash` is that of the content its row stands for, if known."""

    row: int
    key: bytes
    path: str
    content_hash: str | None = None


@dataclass(frozen=True)
class Read:
    """What reading one image came to; `pixels` is None if unreadable or known by its hash."""

    content_hash: str | None
    reason: str = ""
    pixels: np.ndarray | None = None
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None


def read_image(source: Source, job: Job, backbone: Backbone, known: Container[str]) -> Read:
    """Read one image once: bytes, content hash, decoding, preprocessing; runs in a thread.

    Parameters
    ----------
    source : Source
        Where it is.
    job : Job
        Which image.
    backbone : Backbone
        Says how to preprocess.
    known : container of str
        Hashes: content that has its vector already is not decoded.
    """
    content_hash = None
    try:
        data = source.read(job.key)
        content_hash = hashlib.sha256(data).hexdigest()
        if content_hash in known:
            return Read(content_hash)
        decoded = decode(data, min_side=backbone.preprocessing.resize)
        pixels = backbone.preprocessing.apply(decoded.image)
    except UnreadableImageError as error:
        return Read(content_hash, reason=error.reason)
    except Exception as error:
        error.add_note(f"while reading {job.path}")
        raise
    return Read(content_hash, "", pixels, decoded.width, decoded.height, decoded.taken_at)
