"""Candidates for the names of clusters, and their features, which a herd keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from imageherd.backbones import Backbone, imagenet_class_names
from imageherd.backbones.base import identity_key
from imageherd.errors import ImageherdError
from imageherd.files import write_atomically
from imageherd.project import keep

PROMPT = "a photo of a {}"

Vectors = NDArray[np.float32]


def read_texts(choice: str) -> list[str]:
    """Read the candidates for names.

    Parameters
    ----------
    choice : str
        "imagenet", the names of the 1,000 ImageNet classes, which come with the package;
        "wordnet:PATH", the nouns of a WordNet on this machine, its ``index.noun`` or the folder of
        that file (Debian's wordnet-base has it in ``/usr/share/wordnet``; 117,798 nouns in version
        3.0); else the path of a text file in UTF-8, a candidate a line.

    Returns
    -------
    list of str
        Without empty lines, each once.

    Raises
    ------
    ImageherdError
        If there is no such file, or no text in it.
    """
    if choice == "imagenet":
        return list(dict.fromkeys(imagenet_class_names()))
    wordnet = choice.startswith("wordnet:")
    path = Path(choice.removeprefix("wordnet:")).expanduser()
    if wordnet and path.is_dir():
        path /= "index.noun"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ImageherdError(
            f"The candidates for names cannot be read from {path}: {why}. Give imagenet, "
            "wordnet:PATH with the path of WordNet's index.noun, or a text file with a name a line."
        ) from error
    if wordnet:
        # The licence comes first, indented; of a line on a noun the first word is the noun.
        lines = [line.split(" ", 1)[0].replace("_", " ") for line in lines if line[:1] != " "]
    found = list(dict.fromkeys(text for line in lines if (text := " ".join(line.split()))))
    if not found:
        raise ImageherdError(f"{path} holds no candidate for a name; give one a line.")
    return found


def kept_text_features(
    herd: Path, backbone: Backbone, texts: Sequence[str], prompt: str = PROMPT
) -> Vectors:
    """Return the features of the prompted texts, from ``texts/`` of the herd if they are there.

    Parameters
    ----------
    herd : Path
        The herd; a read-only one keeps nothing.
    backbone : Backbone
        A model of images and texts.
    texts : sequence of str
        The candidates.
    prompt : str, default="a photo of a {}"
        What is read: "{}" stands for the candidate.

    Returns
    -------
    ndarray of float32, shape (m, d)

    Raises
    ------
    ImageherdError
        If the prompt has no "{}", or as in `imageherd.backbones.text.encode_texts`.
    """
    from imageherd.backbones.text import encode_texts, text_identity

    if "{}" not in prompt:
        raise ImageherdError(f'The prompt {prompt!r} has no "{{}}" to stand for the candidate.')
    listed = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
    key = identity_key({**text_identity(backbone), "prompt": prompt, "texts": listed})
    path = herd / "texts" / f"{key}.safetensors"
    # What is damaged is made again.
    damage = (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError)
    with suppress(*damage), safetensors.safe_open(path, "numpy") as file:
        features: Vectors = file.get_tensor("features")
        if json.loads(file.metadata()["about"])["sha256"] == _digest(features):
            return features
    features = encode_texts(backbone, [prompt.replace("{}", text) for text in texts])
    about = {"sha256": _digest(features), "model": backbone.name, "prompt": prompt}
    # One entry: safetensors puts several in an order of its own, another one each time.
    metadata = {"about": json.dumps(about)}
    content = safetensors.numpy.save({"features": features}, metadata=metadata)
    keep(herd, lambda: write_atomically(path, lambda file: file.write(content)))
    return features


def _digest(features: Vectors) -> str:
    return hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()
