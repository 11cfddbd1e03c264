"""Any network in an ONNX file, its preprocessing beside it as JSON; run by ONNX Runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from imageherd.backbones.base import (
    BATCH_SIZE,
    PIXELS_VERSION,
    Outputs,
    files_sha256,
    identity_key,
    run_padded,
)
from imageherd.backbones.preprocess import Mode, Preprocessing
from imageherd.cores import usable_cores
from imageherd.errors import ImageherdError

N_CLASSES = 1000
# Full float32 and the same algorithm on every run: features must not depend on the machine's mood.
PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}),
    "mps": ("CoreMLExecutionProvider", {}),
    "cpu": ("CPUExecutionProvider", {}),
}
WANTED_BUILD = {
    "cuda": "Install onnxruntime-gpu in place of onnxruntime, or use --device cpu.",
    "mps": "Core ML comes with onnxruntime on a Mac; use --device cpu here.",
}


class OnnxBackbone:
    """A network in ONNX Runtime; see `Backbone` for the attributes.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file. One input (b, 3, h, w) float32; an output called ``features`` (b, d),
        or a single output of that shape; optionally ``logits`` (b, 1000), ImageNet's classes
        (logits of other classes are left alone).
    preprocessing : Preprocessing
        What the network was trained with.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        "auto" takes the best that the installed build of ONNX Runtime has.
    name : str, optional
        Default: the file's name without its ending.
    revision : str, optional
        Kept in the identity.
    identity : mapping, optional
        In place of the file's own, for a file made from a model that has one.

    Raises
    ------
    ImageherdError
        If the file is damaged, the network has not the shape described above, or the installed
        ONNX Runtime cannot use the device.
    """

    def __init__(
        self,
        path: Path,
        preprocessing: Preprocessing,
        *,
        device: str = "auto",
        name: str | None = None,
        revision: str | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = path.stem if name is None else name
        self.preprocessing = preprocessing
        self._session = open_session(path, device)
        self._input, fixed_batch = _check_input(self._session, preprocessing.size, path)
        self._features = _features_output(self._session, path)
        self._outputs = [self._features]
        self.batch_size = BATCH_SIZE if fixed_batch is None else fixed_batch
        self.dim = self._probe(path)
        # Core ML may compute in half precision where it likes to.
        half = "CoreMLExecutionProvider" in self._session.get_providers()
        self.identity: dict[str, Any] = dict(identity or {}) or {
            "model": self.name,
            "revision": revision,
            "weights": files_sha256(_weight_files(path)),
            "output": self._features,
            "preprocessing": {**preprocessing.to_dict(), "version": PIXELS_VERSION},
            "dtype": "mixed" if half else "float32",
        }
        self.key = identity_key(self.identity)

    def embed(self, batch: NDArray[np.float32]) -> Outputs:
        """Turn a batch (b, 3, size, size) into features and logits; see `Backbone.embed`."""
        return run_padded(batch, self.preprocessing, self.batch_size, self._run)

    def _run(self, block: NDArray[np.float32]) -> Outputs:
        values = self._session.run(self._outputs, {self._input: block})
        names = ("features", "logits")
        return {k: v.astype(np.float32, copy=False) for k, v in zip(names, values, strict=False)}

    def _probe(self, path: Path) -> int:
        """Run one batch to see that the network runs; the length of its features."""
        size = self.preprocessing.size
        try:
            features = self._run(np.zeros((self.batch_size, 3, size, size), np.float32))["features"]
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise ImageherdError(
                f"{path} does not run on a {size} x {size} image: {_first_line(error)}"
            ) from error
        if features.ndim != 2 or len(features) != self.batch_size:
            raise _rank_error(path, self._features, features.ndim)
        logits = [o for o in self._session.get_outputs() if o.name == "logits"]
        if logits and len(logits[0].shape) == 2 and logits[0].shape[1] == N_CLASSES:
            self._outputs = [self._features, "logits"]
        return int(features.shape[1])


def load_onnx(path: Path, *, device: str = "auto", mode: Mode | None = None) -> OnnxBackbone:
    """Load ``net.onnx`` with the preprocessing in ``net.json`` beside it.

    The JSON file holds one object with the six fields of `Preprocessing`, for instance
    ``{"size": 224, "resize": 256, "mode": "crop", "interpolation": "bicubic",
    "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}``.

    Raises
    ------
    ImageherdError
        If one of the two files is missing or wrong; the message says which and how.
    """
    if not path.is_file():
        raise ImageherdError(f"There is no file {path}.")
    beside = path.with_suffix(".json")
    example = json.dumps(Preprocessing(size=224, resize=256).to_dict())
    try:
        values = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ImageherdError(
            f"{path} needs its preprocessing beside it, in {beside.name}; for instance {example}"
        ) from None
    except (OSError, ValueError) as error:
        raise ImageherdError(f"{beside} is not readable as JSON: {error}") from error
    try:
        preprocessing = Preprocessing.from_dict(values)
    except ImageherdError as error:
        raise ImageherdError(f"{beside}: {error} For instance {example}") from None
    return OnnxBackbone(path, preprocessing.with_mode(mode), device=device)


def open_session(path: Path, device: str) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on `device`, with one thread per core this process may use."""
    providers = choose_providers(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    # Threads that wait spin by default: they would take the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise ImageherdError(
            f"{path} is not a network that ONNX Runtime {onnxruntime.__version__} can read, "
            f"perhaps cut short; get the file again. ONNX Runtime says: {_first_line(error)}"
        ) from error
    # A provider whose libraries are missing is dropped without an error.
    if providers[0][0] not in session.get_providers() and device != "auto":
        raise ImageherdError(
            f"device={device!r} was asked for, but ONNX Runtime could not start its "
            f"{providers[0][0]}. Use --device cpu, or mend the GPU's driver and libraries."
        )
    return session


def choose_providers(device: str, available: list[str]) -> list[tuple[str, dict[str, str]]]:
    """Choose the execution providers for a device, best first, of those the build has.

    Raises
    ------
    ImageherdError
        If the device is not known or the build lacks its provider.
    """
    kind, _, index = device.partition(":")
    numbered = kind == "cuda" and index.isdecimal()
    if kind not in ("auto", *PROVIDERS) or (":" in device and not numbered):
        raise ImageherdError(f"device={device!r} is not known; choose auto, cpu, cuda or mps.")
    wanted = list(PROVIDERS) if kind == "auto" else list(dict.fromkeys([kind, "cpu"]))
    if kind in WANTED_BUILD and PROVIDERS[kind][0] not in available:
        raise ImageherdError(
            f"device={device!r} was asked for, but the installed ONNX Runtime has no "
            f"{PROVIDERS[kind][0]}. {WANTED_BUILD[kind]}"
        )
    chosen = [(name, dict(settings)) for name, settings in (PROVIDERS[kind] for kind in wanted)]
    if index:
        chosen[0][1]["device_id"] = index
    return [(name, settings) for name, settings in chosen if name in available]


def _check_input(
    session: onnxruntime.InferenceSession, size: int, path: Path
) -> tuple[str, int | None]:
    """Return the input's name, and its batch size where the network fixes one."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ImageherdError(
            f"{path} has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}); "
            "imageherd feeds networks with one, the images."
        )
    only = inputs[0]
    shape = list(only.shape)
    if only.type != "tensor(float)" or len(shape) != 4 or shape[1] not in (3, None, *_names(shape)):
        raise ImageherdError(
            f"{path} takes {only.type} of shape {shape}; imageherd feeds float32 images as "
            "(batch, 3, height, width). Export it with that input."
        )
    fixed = [side for side in shape[2:] if isinstance(side, int) and side != size]
    if fixed:
        raise ImageherdError(
            f"{path} takes images of {shape[2]} x {shape[3]} pixels only, but its preprocessing "
            f"says size {size}. Change the size in {path.with_suffix('.json').name}."
        )
    return only.name, shape[0] if isinstance(shape[0], int) else None


def _features_output(session: onnxruntime.InferenceSession, path: Path) -> str:
    outputs = {output.name: output for output in session.get_outputs()}
    if "features" not in outputs and len(outputs) > 1:
        raise ImageherdError(
            f"{path} has the outputs {', '.join(outputs)}; the one that holds the vectors must be "
            "called features."
        )
    name = "features" if "features" in outputs else next(iter(outputs))
    rank = len(outputs[name].shape)
    # Rank 0 is ONNX Runtime's word for a shape the file does not state: the probe will see.
    if rank not in (0, 2):
        raise _rank_error(path, name, rank)
    return str(name)


def _rank_error(path: Path, name: str, rank: int) -> ImageherdError:
    advice = {
        3: "Export it with the class token, or the mean of the tokens, as the output.",
        4: "It is a map: pool it (the mean over height and width) before exporting.",
    }
    return ImageherdError(
        f"{path}: the output {name} has {rank} dimensions where features have 2, "
        f"(batch, length). {advice.get(rank, 'Export it with one vector an image.')}"
    )


def _weight_files(path: Path) -> list[Path]:
    # Large networks keep their weights in net.onnx.data or net.onnx_data.
    return sorted(p for p in path.parent.iterdir() if p.name.startswith(path.name) and p.is_file())


def _names(shape: list[Any]) -> list[str]:
    return [side for side in shape if isinstance(side, str)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
