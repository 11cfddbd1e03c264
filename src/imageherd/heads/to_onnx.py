"""A trained head in ONNX operators: features to probabilities, in float32, at any opset from 13."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from imageherd.baselines.kmeans import Centers, Directions
from imageherd.baselines.vote import N_VOTERS, NeighborVote
from imageherd.heads.base import Head
from imageherd.heads.cpp_network import CodingNetwork
from imageherd.heads.scaling import Scaler, parts_of
from imageherd.heads.scp import ClusterHead
from imageherd.heads.temi import BestHead
from imageherd.heads.trunk import Classified
from imageherd.heads.tsp import LinearHeads
from imageherd.heads.turtle import TaskEncoders

LEAST_OPSET = 13
"""Since then `ReduceSum` and `Unsqueeze` take their axes as an input, as here."""

# Of so narrow Gaussians one has it all; beyond, float32 would overflow to NaN.
_NARROWEST = 1e-20
# torch.nn.functional.normalize's.
_SHORTEST = 1e-12


class Parts:
    """Nodes and weights of an ONNX graph while it is put together.

    Parameters
    ----------
    prefix : str
        Begins every name, so that graphs can be joined.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(
        self,
        operator: str,
        *inputs: str | Tensor | NDArray[Any] | float,
        outputs: int = 1,
        name: str | None = None,
        **attributes: Any,
    ) -> str:
        """Append a node and return its first output's name.

        Parameters
        ----------
        operator : str
            Of ONNX's own domain.
        *inputs : str, Tensor, ndarray or float
            Names of outputs, or what becomes a weight: int64 where it is of integers, else float32.
        outputs : int, default=1
            How many there are: the second is called like the first with ``_1`` behind it.
        name : str, optional
            Of the first output, in full.
        **attributes
            Of the node.
        """
        names = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        first = name or f"{self.prefix}{operator}_{len(self.nodes)}"
        found = [first, *(f"{first}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, names, found, **attributes))
        return first

    def weight(self, value: Tensor | NDArray[Any] | float) -> str:
        """Add a weight and return its name, for more than one node to use."""
        array = np.asarray(value.detach() if isinstance(value, Tensor) else value)
        dtype = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
        name = f"{self.prefix}weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name


def add_head(parts: Parts, head: Head, features: str) -> str:
    """Append a fitted head's scaling and network.

    The numbers are `Head.predict_proba`'s but for rounding: that computes in float64 on the CPU,
    the graph in float32, which every runtime has.

    Parameters
    ----------
    parts : Parts
        Gets the nodes.
    head : Head
        Of any method, on one feature space.
    features : str
        Name of the features (b, d), float32.

    Returns
    -------
    str
        Name of the probabilities (b, n_clusters_), float32.

    Raises
    ------
    ValueError
        If the head takes several feature spaces side by side.
    """
    scalers = parts_of(head.scaler_)
    if len(scalers) > 1:
        raise ValueError(
            f"blocks={head.blocks!r} are {len(scalers)} feature spaces side by side; only a head "
            "on one can be written as ONNX."
        )
    network = head.network_
    return _NETWORKS[type(network)](parts, network, _scaled(parts, scalers[0], features))


def normalized(parts: Parts, x: str, shortest: float = _SHORTEST) -> str:
    """Append what brings rows (b, d) to length 1; returns their name."""
    squares = parts.add("ReduceSum", parts.add("Mul", x, x), np.array([1]), keepdims=1)
    return parts.add("Div", x, parts.add("Max", parts.add("Sqrt", squares), shortest))


def _scaled(parts: Parts, scaler: Scaler, x: str) -> str:
    if scaler.kind == "l2":
        tiny = float(np.finfo(np.float32).tiny)
        return parts.add("Mul", normalized(parts, x, tiny), math.sqrt(scaler.n_features))
    if scaler.kind == "standard":
        return parts.add("Mul", parts.add("Sub", x, scaler.shift), scaler.scale)
    if scaler.kind == "pca":
        return parts.add("MatMul", parts.add("Sub", x, scaler.shift), scaler.components.T)
    return x


def _layers(parts: Parts, layers: Iterable[nn.Module], x: str) -> str:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = parts.add("Gemm", x, layer.weight, layer.bias, transB=1)
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
            x = parts.add("Mul", parts.add("Sub", x, layer.running_mean), scale)
            x = parts.add("Add", x, layer.bias)
        else:
            assert isinstance(layer, nn.ReLU)
            x = parts.add("Relu", x)
    return x


def _softmax(parts: Parts, logits: str) -> str:
    return parts.add("Softmax", logits, axis=1)


def _linear(parts: Parts, network: nn.Linear, z: str) -> str:
    return _softmax(parts, _layers(parts, [network], z))


def _sequential(parts: Parts, network: nn.Sequential, z: str) -> str:
    return _softmax(parts, _layers(parts, network, z))


def _classified(parts: Parts, network: Classified, z: str) -> str:
    return _softmax(parts, _layers(parts, [*network.trunk, *network.classifier], z))


def _cluster_head(parts: Parts, network: ClusterHead, z: str) -> str:
    *hidden, last = network.layers
    layers = [layer for linear in hidden for layer in (linear, nn.ReLU())]
    return _softmax(parts, _layers(parts, [*layers, last], z))


def _linear_heads(parts: Parts, network: LinearHeads, z: str) -> str:
    H, K, d = network.weight.shape
    bias = network.bias.reshape(-1)
    logits = parts.add("Gemm", z, network.weight.reshape(H * K, d), bias, transB=1)
    each = parts.add("Softmax", parts.add("Reshape", logits, np.array([0, H, K])), axis=2)
    return parts.add("Div", parts.add("ReduceSum", each, np.array([1]), keepdims=0), float(H))


def _best_head(parts: Parts, network: BestHead, z: str) -> str:
    stack = network.stack
    x = parts.add("Gemm", z, stack.hidden_weight[0], stack.hidden_bias[0, 0], transB=1)
    bell = parts.add("Add", parts.add("Erf", parts.add("Mul", x, math.sqrt(0.5))), 1.0)
    x = parts.add("Mul", parts.add("Mul", x, 0.5), bell)
    x = parts.add("Gemm", x, stack.bottleneck_weight[0], stack.bottleneck_bias[0, 0], transB=1)
    last = nn.functional.normalize(stack.direction[0].double(), dim=1) * stack.gain[0]
    x = parts.add("MatMul", normalized(parts, x), (last / network.temperature).T)
    return _softmax(parts, x)


def _task_encoders(parts: Parts, network: TaskEncoders, z: str) -> str:
    weight, bias = network.weights()[0], network.bias[0]
    return _softmax(parts, parts.add("Gemm", z, weight, bias, transB=1))


def _coding_network(parts: Parts, network: CodingNetwork, z: str) -> str:
    codes = normalized(parts, _layers(parts, [*network.trunk, network.to_codes], z))
    alike = parts.add("Abs", parts.add("MatMul", codes, network.landmark_codes.T))
    alike = parts.add("Add", alike, network.landmark_potentials)
    weights = _softmax(parts, parts.add("Div", alike, network.gamma))
    groups = nn.functional.one_hot(network.landmark_labels, network.n_clusters)
    return parts.add("MatMul", weights, groups.float())


def _centers(parts: Parts, network: Centers, z: str) -> str:
    # ‖z‖² is the same for all centres and so nothing to the softmax; seen from the centres' mean,
    # what is left has no large numbers that cancel.
    centers = network.centers.double()
    middle = centers.mean(0)
    scale = 1 / max(float(network.variance), _NARROWEST)
    away = centers - middle
    bias = -away.square().sum(1) * (scale / 2)
    logits = parts.add("Gemm", parts.add("Sub", z, middle), away * scale, bias, transB=1)
    return _softmax(parts, logits)


def _directions(parts: Parts, network: Directions, z: str) -> str:
    centers = network.centers.double()
    away = (centers - centers.mean(0)) * network.concentration
    return _softmax(parts, parts.add("MatMul", normalized(parts, z), away.T))


def _neighbor_vote(parts: Parts, network: NeighborVote, z: str) -> str:
    k = min(N_VOTERS, len(network.rows))
    z = parts.add("Sub", z, network.center)
    rows = parts.weight(network.rows)
    lengths = network.rows.double().square().sum(1)
    # Squared distances less ‖z‖², which orders them no differently.
    products = parts.add("Gemm", z, rows, lengths, alpha=-2.0, transB=1)
    nearest = parts.add("TopK", products, np.array([k]), outputs=2, largest=0)
    places = f"{nearest}_1"
    # Anew, by differences: the products of near rows cancel to rounding.
    away = parts.add("Gather", rows, places)
    away = parts.add("Sub", away, parts.add("Unsqueeze", z, np.array([1])))
    distances = parts.add("ReduceSum", parts.add("Mul", away, away), np.array([2]), keepdims=1)
    shares = parts.add("Div", 1.0, parts.add("Max", distances, network.same))
    labels = parts.add("Gather", network.labels, places)
    groups = parts.add("OneHot", labels, np.array([network.n_clusters]), np.array([0.0, 1.0]))
    votes = parts.add("Mul", shares, groups)
    votes = parts.add("ReduceSum", votes, np.array([1]), keepdims=0)
    return parts.add("Div", votes, parts.add("ReduceSum", shares, np.array([1]), keepdims=0))


_NETWORKS: dict[type[nn.Module], Callable[[Parts, Any, str], str]] = {
    nn.Linear: _linear,
    nn.Sequential: _sequential,
    Classified: _classified,
    ClusterHead: _cluster_head,
    LinearHeads: _linear_heads,
    BestHead: _best_head,
    TaskEncoders: _task_encoders,
    CodingNetwork: _coding_network,
    Centers: _centers,
    Directions: _directions,
    NeighborVote: _neighbor_vote,
}
