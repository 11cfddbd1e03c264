"""Time CPP's compression term: ours beside the dense form, interleaved, and their difference.

    python benchmarks/cpp_coding.py --rows 1024 --dz 128 --rounds 3 --json cpp_coding.json

The dense form is the equation as it stands: one product Zᵀ diag(Πj) Z for every column, slogdet,
autograd. A round times both, one after the other, so that they meet the same machine; the best
and the median of the rounds are given, and the processor's seconds (all threads) of the best, which
others on the machine change less.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imageherd.heads.coding import compression

EPS2 = 0.1


def dense_compression(Z: Tensor, Pi: Tensor, eps2: float) -> Tensor:
    B, dz = Z.shape
    mass = Pi.sum(0)
    grams = torch.bmm((Pi.T[:, None, :] * Z.T), Z.expand(len(mass), -1, -1))
    matrices = torch.eye(dz, dtype=Z.dtype, device=Z.device) + grams * (
        dz / (mass[:, None, None] * eps2)
    )
    return (mass * torch.linalg.slogdet(matrices).logabsdet).sum() / (2 * B)


def batch(rows: int, dz: int, device: str) -> tuple[Tensor, Tensor]:
    """Draw unit rows around ten directions, and a row-stochastic Π as sharp as CPP's (γ 0.175)."""
    numbers = torch.Generator().manual_seed(0)
    centers = torch.randn(10, dz, generator=numbers)
    Z = centers[torch.arange(rows) % 10] + torch.randn(rows, dz, generator=numbers)
    Z = torch.nn.functional.normalize(Z)
    return Z.to(device), ((Z @ Z.T).abs() / 0.175).softmax(1).to(device)


def value(form: Callable[..., Tensor], Z: Tensor, Pi: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return (form(Z, Pi, EPS2),)


def value_and_gradients(form: Callable[..., Tensor], Z: Tensor, Pi: Tensor) -> tuple[Tensor, ...]:
    Z, Pi = Z.clone().requires_grad_(), Pi.clone().requires_grad_()
    loss = form(Z, Pi, EPS2)
    return loss.detach(), *torch.autograd.grad(loss, (Z, Pi))


def compare(
    work: Callable[..., tuple[Tensor, ...]], Z: Tensor, Pi: Tensor, rounds: int
) -> dict[str, Any]:
    forms = {"dense": dense_compression, "ours": compression}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    processor: dict[str, list[float]] = {name: [] for name in forms}
    results = {}
    for i in range(rounds + 1):
        for name, form in forms.items():
            began, worked = time.perf_counter(), time.process_time()
            results[name] = [x.cpu() for x in work(form, Z, Pi)]
            if i:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - worked)
    pairs = list(zip(results["ours"], results["dense"], strict=True))
    return {
        **{f"{name}_best_s": min(s) for name, s in seconds.items()},
        **{f"{name}_median_s": statistics.median(s) for name, s in seconds.items()},
        **{f"{name}_processor_s": min(s) for name, s in processor.items()},
        "ratio_of_processor": min(processor["dense"]) / min(processor["ours"]),
        "ratio_of_best": min(seconds["dense"]) / min(seconds["ours"]),
        "ratio_of_medians": statistics.median(seconds["dense"])
        / statistics.median(seconds["ours"]),
        "max_difference": max(float((a - b).abs().max()) for a, b in pairs),
        "relative_difference": max(float((a - b).norm() / b.norm()) for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--dz", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    Z, Pi = batch(args.rows, args.dz, args.device)
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        **{name: getattr(args, name) for name in ("rows", "dz", "rounds", "threads", "device")},
        "forward": compare(value, Z, Pi, args.rounds),
        "forward_and_backward": compare(value_and_gradients, Z, Pi, args.rounds),
    }
    for name in ("forward", "forward_and_backward"):
        found = report[name]
        print(
            f"{name}: dense {found['dense_best_s']:.3f} s, ours {found['ours_best_s']:.3f} s, "
            f"ratio {found['ratio_of_best']:.2f} (medians {found['ratio_of_medians']:.2f}, "
            f"processor {found['ratio_of_processor']:.2f}), "
            f"max difference {found['max_difference']:.1e}, "
            f"relative {found['relative_difference']:.1e}"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
