"""ONNX files of a few bytes, written without the onnx package: the mean colour of an image."""

FLOAT, FLOAT16 = 1, 10


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _tensor(name, shape, kind):
    dims = b"".join(
        _bytes(1, _number(1, side) if isinstance(side, int) else _bytes(2, side)) for side in shape
    )
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def _node(kind, source, target):
    node = _bytes(1, source) + _bytes(2, target) + _bytes(4, kind)
    if kind == "ReduceMean":
        node += _bytes(5, _bytes(1, "axes") + _number(8, 2) + _number(20, 7))
        node += _bytes(5, _bytes(1, "keepdims") + _number(3, 0) + _number(20, 2))
    return _bytes(1, node)


def mean_colour(
    shape=("batch", 3, "height", "width"),
    kind=FLOAT,
    outputs=(("features", ("batch", 3)),),
    last="Flatten",
    second_input=False,
):
    """A network whose every output is the mean over height and width, by the operator `last`."""
    nodes = [_node("GlobalAveragePool", "images", "map")]
    nodes += [_node(last, "map", name) for name, _ in outputs]
    inputs = [("images", shape), *([("text", shape)] if second_input else [])]
    graph = b"".join(nodes) + _bytes(2, "tiny")
    graph += b"".join(_bytes(11, _tensor(name, dims, kind)) for name, dims in inputs)
    graph += b"".join(_bytes(12, _tensor(name, dims, kind)) for name, dims in outputs)
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))
