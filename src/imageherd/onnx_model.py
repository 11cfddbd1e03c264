"""One ONNX file from pixels to clusters: a herd's backbone and a clustering's head, joined."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from imageherd.backbones import Backbone, Preprocessing, load_backbone
from imageherd.backbones.bundled import BUNDLED_FILE, BUNDLED_NAME
from imageherd.backbones.preprocess import LONGEST_SIDE
from imageherd.backbones.spec import parse_spec
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.clustering import Clustering, by_cluster
from imageherd.derived import feature_set
from imageherd.errors import ImageherdError
from imageherd.files import write_atomically, write_json
from imageherd.heads.base import Head
from imageherd.herd import Herd
from imageherd.makers import refuse_images
from imageherd.onnx_graph import joined
from imageherd.progress import progress
from imageherd.project import read_project
from imageherd.versions import versions_of

if TYPE_CHECKING:
    import onnx

FORMAT = 1
MOST_DIFFERENCE = 0.01
"""In a probability, between the file and the herd: rounding is far less, a mistake far more."""

_ENDING = ".onnx"


def write_onnx(
    herd: str | Path, destination: str | Path, *, name: str = "default", as_trained: bool = False
) -> Path:
    """Write a clustering's backbone and head as one ONNX file, and what it is as JSON beside it.

    The file has one input, ``pixels`` (b, 3, size, size), float32 from 0 to 255, RGB; mean and
    standard deviation are taken care of inside. It has two outputs: ``probabilities`` (b, K),
    float32, what `Head.predict_proba` says, added up where clusters were merged; and ``cluster``
    (b,), int64, the uid of the cluster that `Herd.assign` puts the image in. That an image fits
    nowhere it cannot say: that takes the other images. An ONNX backbone takes as many images at
    once as its file does (the bundled one any number), one of PyTorch any number where PyTorch can
    write it so, else one; in 8 bits always one, since the rounding goes by all that is run at once.

    Parameters
    ----------
    herd : str or Path
        The herd.
    destination : str or Path
        A new file ending in ``.onnx``. A new file of the same name ending in ``.json`` gets what
        `description` returns; the model's metadata has it too.
    name, as_trained
        Which clustering, as in `imageherd.Herd.clustering`. Of a person's edits mergers and names
        are in the file; a cluster that was split keeps the number that it had, as images alone do
        not tell its parts apart.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    ImageherdError
        If one of the files is there, the extra ``onnx`` is missing, the features are not made of
        images, the backbone is not the one any more that made them or cannot be exported, the head
        takes several feature spaces side by side, or the file would be above 2 GB.

    Notes
    -----
    Of a method that finds clusters for the fitted images only (spectral, spectral-pi,
    agglomerative, hdbscan, ensc, ssc-omp) the file holds these images' features, scaled. Takes
    about three times the file's size in memory and some seconds; a PyTorch backbone up to minutes.
    The backbone runs on the CPU, in float32: features that a GPU computed in half precision differ
    from its own in the third digit.
    """
    herd, destination = Path(herd), Path(destination)
    if destination.suffix.lower() != _ENDING:
        raise ImageherdError(f"{destination} is to be an ONNX file; let its name end in {_ENDING}.")
    beside = destination.with_suffix(".json")
    for path in (destination, beside):
        if os.path.lexists(path):
            raise ImageherdError(f"{path} exists already; export never overwrites. Name another.")
    _require_onnx()
    found = Herd(herd).clustering(name, as_trained=as_trained)
    head = versions_of(herd, name).head(found.version, device="cpu")
    if head.blocks is not None and len(head.blocks) > 1:
        raise ImageherdError(
            f"Clustering {name!r} was made on {len(head.blocks)} feature spaces side by side "
            "(blocks); only one made on a single space can be written as ONNX."
        )
    key = found.config["features"]
    made_by = read_project(herd)["backbones"][key]
    refuse_images(made_by)
    identity = feature_set(herd, key).manifest["identity"]
    with TemporaryDirectory(prefix="imageherd-onnx-") as scratch:
        backbone, net = _backbone_file(made_by, identity, Path(scratch))
        model = joined(net, backbone.preprocessing, head, found.config["uids"])
    about = description(model, found, backbone)
    for entry, value in about.items():
        model.metadata_props.add(key=entry, value=json.dumps(value, ensure_ascii=False))
    data = model.SerializeToString()
    _check(data, about["batch"], backbone, head, found.config["uids"])
    write_atomically(destination, lambda file: file.write(data))
    write_json(beside, about)
    return destination


def description(
    model: onnx.ModelProto, clustering: Clustering, backbone: Backbone
) -> dict[str, Any]:
    """Return what a program must know of a joined model, as plain JSON values.

    Its entries: format (1), imageherd (the version that wrote it), clustering (name, version,
    method), uids and names (of the columns of ``probabilities``, in order), backbone (the identity
    of what makes the features), resize (size, resize, mode and interpolation: the fields of
    `imageherd.backbones.Preprocessing` that are left to do), preparation (the same in words),
    batch (images at once; null is any number), opset.

    Parameters
    ----------
    model : onnx.ModelProto
        From `joined`.
    clustering : Clustering
        Whose head is in it.
    backbone : Backbone
        The one in it.
    """
    config, trained = clustering.config, clustering.as_trained or clustering
    names = trained.names() | clustering.names()
    uids = list(dict.fromkeys(config["uids"]))
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    steps = backbone.preprocessing.to_dict()
    return {
        "format": FORMAT,
        "imageherd": version("imageherd"),
        "clustering": {
            "name": clustering.name,
            "version": clustering.version,
            "method": config["method"],
        },
        "uids": uids,
        # A column that has won no image yet is no cluster with a name.
        "names": [names.get(uid, f"cluster {uid}") for uid in uids],
        "backbone": backbone.identity,
        "resize": {field: steps[field] for field in ("size", "resize", "mode", "interpolation")},
        "preparation": _in_words(backbone.preprocessing),
        "batch": batch.dim_value if batch.HasField("dim_value") else None,
        "opset": next(entry.version for entry in model.opset_import if entry.domain == ""),
    }


def _backbone_file(name: str, identity: dict[str, Any], scratch: Path) -> tuple[Backbone, Path]:
    """Load the backbone that made features, and find or write it as an ONNX file."""
    spec = parse_spec(name)
    backbone = load_backbone(name, device="cpu")
    # A GPU computes in half precision, for the same weights and pixels.
    changed = [k for k, v in backbone.identity.items() if k != "dtype" and identity.get(k) != v]
    if changed:
        raise ImageherdError(
            f"The backbone {name} is not the one any more that made the clustering's features "
            f"(another {' and '.join(changed)}); run `imageherd embed` and `imageherd cluster` "
            "again."
        )
    if spec.model == BUNDLED_NAME:
        return backbone, BUNDLED_FILE
    if spec.model.lower().endswith(_ENDING):
        return backbone, Path(spec.model).expanduser()
    from imageherd.backbones.onnx_export import export, export_for_any_batch, quantize

    net = backbone
    if spec.runtime != "torch":
        net = load_backbone(spec.model, device="cpu", output=spec.output)
    assert isinstance(net, TorchBackbone)
    with progress("Exporting to ONNX", 1, "models") as advance:
        if spec.runtime == "onnx-int8":
            export(net, scratch / "net.onnx", batch=1)
        elif not export_for_any_batch(net, scratch / "net.onnx"):
            warnings.warn(
                f"The file takes one image at a time: {name} cannot be written for any number.",
                stacklevel=2,
            )
        advance(1)
    if spec.runtime != "onnx-int8":
        return backbone, scratch / "net.onnx"
    quantize(scratch / "net.onnx", scratch / "int8.onnx")
    return backbone, scratch / "int8.onnx"


def _in_words(preprocessing: Preprocessing) -> list[str]:
    p = preprocessing
    if p.mode == "squash":
        resize = f"Resize it to {p.resize} x {p.resize} pixels"
    else:
        resize = (
            f"If its long side is more than {LONGEST_SIDE} times the short one, cut its ends off "
            "down to that, evenly (of an odd number, one pixel more at the far end). Resize it to "
            f"width {p.resize} * width // short, height {p.resize} * height // short, where short "
            "is the lesser of the two"
        )
    return [
        "Decode the image to 8-bit RGB, upright by its EXIF orientation, transparent parts on "
        "white, colour profiles ignored; a JPEG at the smallest of 1/1, 1/2, 1/4 and 1/8 of its "
        f"size whose short side is {p.resize} pixels or more (Pillow: Image.draft).",
        f"{resize}, with Pillow's {p.interpolation} filter.",
        f"Cut out the square of {p.size} x {p.size} pixels whose left is (width - {p.size}) // 2 "
        f"and whose top is (height - {p.size}) // 2.",
        f"pixels: float32 from 0 to 255, shape (b, 3, {p.size}, {p.size}), red, green, blue. Mean "
        "and standard deviation are the model's own business.",
    ]


def _check(
    data: bytes, batch: int | None, backbone: Backbone, head: Head, uids: Sequence[int]
) -> None:
    """Run the file on random pixels, and see whether it says what backbone and head say."""
    p = backbone.preprocessing
    shape = (batch or 3, 3, p.size, p.size)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    mean, std = (np.array(v, dtype=np.float32).reshape(1, 3, 1, 1) for v in (p.mean, p.std))
    expected = head.predict_proba(backbone.embed((pixels - mean) / std)["features"])
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"pixels": pixels})[0]
    difference = float(np.abs(found - by_cluster(expected, list(uids))).max())
    if not difference <= MOST_DIFFERENCE:
        raise ImageherdError(
            f"The joined file does not answer as the herd does (a probability differs by "
            f"{difference:.3f} on random pixels), so nothing was written; please report it."
        )


def _require_onnx() -> None:
    if find_spec("onnx") is None:
        raise ImageherdError('Writing an ONNX file needs onnx: pip install "imageherd[onnx]"')
