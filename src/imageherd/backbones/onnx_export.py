"""A PyTorch backbone as an ONNX file, made once, checked against PyTorch, run by ONNX Runtime."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import filelock
import numpy as np
import torch
from numpy.typing import NDArray

from imageherd.backbones.base import BATCH_SIZE
from imageherd.backbones.cache import cache_dir
from imageherd.backbones.onnx import OnnxBackbone, open_session
from imageherd.backbones.spec import Spec
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.errors import ImageherdError
from imageherd.progress import progress

# Counts changes to the export that change features.
EXPORT_VERSION = 1
INPUT, OUTPUT, FILE = "images", "features", "net.onnx"
# The file must say what PyTorch says; 8-bit weights may say it a little differently.
LEAST_COSINE = {"onnx": 1 - 1e-5, "onnx-int8": 0.95}


def load_exported(found: TorchBackbone, spec: Spec, *, device: str = "auto") -> OnnxBackbone:
    """Load a backbone in ONNX Runtime, exporting it first where that was not done before.

    The file lies in `cache_dir`, one folder for each set of weights, output and preprocessing: as
    large as the model, a quarter of that with 8-bit weights. Exporting takes seconds to minutes and
    about three times the model's size in memory.

    With 8-bit weights (``onnx-int8``) the network's matrix products are computed on 8-bit integers;
    each image is run on its own, since the scale of the rounding is taken over all that is run
    together, and a row must not depend on its company.

    Parameters
    ----------
    found : TorchBackbone
        On the CPU, in float32.
    spec : Spec
        Its name, with the runtime "onnx" or "onnx-int8".
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where ONNX Runtime runs it.

    Raises
    ------
    ImageherdError
        If the extra ``onnx`` is missing, the model cannot be exported, or the file does not answer
        as PyTorch does: cosine of 1 - 1e-5 or more on random pixels, 0.95 with 8-bit weights.
    """
    folder = cache_dir() / "onnx" / f"{found.key}-{spec.runtime}-{EXPORT_VERSION}"
    if not (folder / FILE).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
            # Another process may have made it meanwhile.
            if not (folder / FILE).is_file():
                with progress("Exporting to ONNX", 1, "models") as advance:
                    _make(found, spec, folder)
                    advance(1)
    return OnnxBackbone(
        folder / FILE,
        found.preprocessing,
        device=device,
        name=spec.name,
        identity={**found.identity, "runtime": spec.runtime, "export": EXPORT_VERSION},
    )


def _make(found: TorchBackbone, spec: Spec, folder: Path) -> None:
    """Export, check, and only then give the folder its name."""
    _require_onnx()
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    batch = BATCH_SIZE if spec.runtime == "onnx" else 1
    path = unfinished / FILE
    export(found, path, batch=batch)
    _check(found, path, batch, spec, "onnx")
    if spec.runtime == "onnx-int8":
        small = unfinished / "small"
        small.mkdir()
        quantize(path, small / FILE)
        _check(found, small / FILE, batch, spec, "onnx-int8")
        small.rename(folder)
        shutil.rmtree(unfinished)
    else:
        unfinished.rename(folder)


def export_for_any_batch(found: TorchBackbone, path: Path) -> bool:
    """Write a backbone as an ONNX file that takes any number of images at once, or else one.

    Which it is, its input's shape says. Tried on 1 and 3 images against PyTorch before it is
    believed: some models are written for the number that they were traced with.

    Parameters
    ----------
    found : TorchBackbone
        On the CPU, in float32.
    path : Path
        The new file; large weights lie beside it.

    Returns
    -------
    bool
        Whether it takes any number.

    Raises
    ------
    ImageherdError
        If PyTorch cannot export the model at all.
    """
    try:
        export(found, path, batch=None)
        for batch in (1, 3):
            _check(found, path, batch, Spec(found.name), "onnx")
    except Exception:  # ONNX Runtime raises all kinds
        export(found, path, batch=1)
        return False
    return True


def export(found: TorchBackbone, path: Path, *, batch: int | None) -> None:
    """Write a backbone as an ONNX file that takes `batch` images at once, None for any number.

    With None the model is traced with two images, which some cannot do without being written for
    two: see `export_for_any_batch`.

    Raises
    ------
    ImageherdError
        If PyTorch cannot export the model.
    """

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = found.model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return found.extract(images)

    images = torch.from_numpy(_pixels(found, batch or 2))
    any_number = None if batch else ({0: torch.export.Dim("batch")},)
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                *(Features().eval(), (images,), path),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamo=True,
                verbose=False,
                dynamic_shapes=any_number,
            )
    except Exception as error:  # torch.onnx raises all kinds
        raise ImageherdError(
            f"{found.name} cannot be exported to ONNX by PyTorch {torch.__version__} "
            f"({_first_line(error)}); leave the runtime at torch."
        ) from error


def quantize(path: Path, small: Path) -> None:
    """Write an ONNX file anew with its matrices in 8 bits, one scale a column.

    Raises
    ------
    ImageherdError
        If ONNX Runtime cannot.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(path, load_external_data=False)
    # Shapes noted beside weights that the quantiser turns around would contradict it.
    del graph.graph.value_info[:]
    onnx.save(graph, path)
    try:
        with _quiet():
            quantize_dynamic(
                *(path, small),
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                # Unsigned: with signed weights, processors without VNNI overflow in silence.
                weight_type=QuantType.QUInt8,
                use_external_data_format=path.with_name(f"{path.name}.data").exists(),
            )
    except Exception as error:  # onnx and ONNX Runtime raise all kinds
        raise ImageherdError(
            f"ONNX Runtime cannot give this network 8-bit weights ({_first_line(error)}); take the "
            "runtime onnx."
        ) from error


def _check(found: TorchBackbone, path: Path, batch: int, spec: Spec, precision: str) -> None:
    pixels = _pixels(found, batch)
    theirs = found.embed(pixels)["features"].astype(np.float64)
    ours = open_session(path, "cpu").run([OUTPUT], {INPUT: pixels})[0].astype(np.float64)
    cosine = least_cosine(theirs, ours) if ours.shape == theirs.shape else 0.0
    if not cosine >= LEAST_COSINE[precision]:
        raise ImageherdError(
            f"{spec.name}: the exported file does not answer as PyTorch does (cosine "
            f"{cosine:.6f} on random pixels, {LEAST_COSINE[precision]:.5f} is the least); leave "
            f"the runtime at {'torch' if precision == 'onnx' else 'onnx'}."
        )


def least_cosine(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    """Return the least cosine similarity of two arrays' rows, shapes (n, d)."""
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((theirs * ours).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def _pixels(found: TorchBackbone, batch: int) -> NDArray[np.float32]:
    side = found.preprocessing.size
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, 3, side, side)).astype(np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _require_onnx() -> None:
    missing = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if missing:
        raise ImageherdError(
            f'Exporting to ONNX needs {" and ".join(missing)}: pip install "imageherd[onnx]"'
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters tell their own developers off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
