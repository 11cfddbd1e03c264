"""The graphs of a joined model: pixels to a network's input, the network, features to clusters."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imageherd.backbones import Preprocessing
from imageherd.errors import ImageherdError
from imageherd.heads.base import Head

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 2**31 - 2**20
"""Protobuf's limit, less room for names and nodes."""

_PIXELS, _NETWORK, _CLUSTERS = "pixels/", "backbone/", "clusters/"


def joined(
    path: Path, preprocessing: Preprocessing, head: Head, uids: Sequence[int]
) -> onnx.ModelProto:
    """Join the scaling of pixels, the network in an ONNX file and a head.

    Parameters
    ----------
    path : Path
        The network, its weights in it or beside it; one of an opset before 13 is converted to that.
    preprocessing : Preprocessing
        Its size, mean and standard deviation are used.
    head : Head
        Fitted on the network's features.
    uids : sequence of int
        Cluster of each of the head's columns.

    Raises
    ------
    ImageherdError
        If the file would be above 2 GB, or ONNX's own tools cannot convert or join the network.
    """
    from onnx import compose, helper

    _check_size(path, head)
    try:
        net = _network(path)
        weights = {tensor.name for tensor in net.graph.initializer}
        images = next(entry for entry in net.graph.input if entry.name not in weights)
        outputs = [output.name for output in net.graph.output]
        features = f"{_NETWORK}features"
        front = _front(net, images.type.tensor_type.shape.dim[0], preprocessing)
        tail = _tail(net, head, uids)
        model = compose.merge_models(front, net, [(f"{_PIXELS}normalized", images.name)])
        model = compose.merge_models(
            *(model, tail),
            [(features if features in outputs else outputs[0], f"{_CLUSTERS}features")],
            outputs=["probabilities", "cluster"],
            name="imageherd",
            doc_string="",
            producer_name="imageherd",
            producer_version=version("imageherd"),
        )
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(*entry) for entry in opsets.items())
        return model
    except Exception as error:  # onnx raises all kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(
            f"{path.name} cannot be joined with the head ({reason}); export it anew with an opset "
            "from 13 on."
        ) from error


def _check_size(path: Path, head: Head) -> None:
    parts = (head.network_, head.scaler_)
    size = sum(value.nbytes for part in parts for value in part.state_dict().values())
    # Large networks keep their weights in net.onnx.data or net.onnx_data.
    size += sum(p.stat().st_size for p in path.parent.iterdir() if p.name.startswith(path.name))
    if size > MOST_BYTES:
        raise ImageherdError(
            f"Backbone and head are {size / 2**30:.1f} GB together; one ONNX file holds at most 2 "
            "GB. Take a smaller backbone, or the runtime onnx-int8."
        )


def _network(path: Path) -> onnx.ModelProto:
    """Load a network, of an opset from 13 on, all its names prefixed."""
    import onnx
    from onnx import compose, version_converter

    from imageherd.heads.to_onnx import LEAST_OPSET

    net = onnx.load(path)
    for entry in net.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    if next(entry.version for entry in net.opset_import if entry.domain == "") < LEAST_OPSET:
        net = version_converter.convert_version(net, LEAST_OPSET)
    # Before 4, weights are inputs too.
    net.ir_version = max(net.ir_version, 4)
    # What is noted of shapes in between would contradict another batch.
    del net.graph.value_info[:]
    return compose.add_prefix(net, _NETWORK, inplace=True)


def _front(net: onnx.ModelProto, batch: Any, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Make the graph from raw pixels to the network's input."""
    from onnx import TensorProto, helper

    from imageherd.heads.to_onnx import Parts

    parts = Parts(_PIXELS)
    mean, std = (
        np.array(values).reshape(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    parts.add("Div", parts.add("Sub", "pixels", mean), std, name=f"{_PIXELS}normalized")
    side = preprocessing.size
    shape = [batch.dim_value if batch.HasField("dim_value") else "batch", 3, side, side]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("pixels", f"{_PIXELS}normalized")
    ]
    return _model(net, parts, [ends[0]], [ends[1]])


def _tail(net: onnx.ModelProto, head: Head, uids: Sequence[int]) -> onnx.ModelProto:
    """Make the graph from features to probabilities and cluster, by the rules of `top_two`."""
    from onnx import TensorProto, helper

    from imageherd.heads.to_onnx import Parts, add_head

    parts = Parts(_CLUSTERS)
    found = add_head(parts, head, f"{_CLUSTERS}features")
    column = parts.add("ArgMax", found, axis=1, keepdims=0)
    parts.add("Gather", np.array(uids, dtype=np.int64), column, name="cluster")
    clusters = list(dict.fromkeys(uids))
    if len(clusters) < len(uids):
        joins = np.array([[uid == cluster for cluster in clusters] for uid in uids], dtype=float)
        found = parts.add("Min", parts.add("MatMul", found, joins), 1.0)
    parts.add("Identity", found, name="probabilities")
    info = helper.make_tensor_value_info
    batch = "batch"
    return _model(
        *(net, parts),
        [info(f"{_CLUSTERS}features", TensorProto.FLOAT, [batch, head.n_features_in_])],
        [
            info("probabilities", TensorProto.FLOAT, [batch, len(clusters)]),
            info("cluster", TensorProto.INT64, [batch]),
        ],
    )


def _model(like: onnx.ModelProto, parts: Any, inputs: Any, outputs: Any) -> onnx.ModelProto:
    """Make a model that can be joined with another one."""
    from onnx import helper

    graph = helper.make_graph(parts.nodes, "part", inputs, outputs, parts.weights)
    own = [entry for entry in like.opset_import if entry.domain == ""]
    return helper.make_model(graph, opset_imports=own, ir_version=like.ir_version)
