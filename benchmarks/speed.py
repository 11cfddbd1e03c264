"""Each method's seconds and peak memory, beside plain PyTorch.

    python benchmarks/speed.py --features X.npy --out speed

Three rows a method: "plain" is `plain/METHOD.py`, "same" is ours with the same settings (equal
work: network, loss, optimizer, batch and number of steps), "default" is ours as it comes. Settings
are the paper's (`PRESETS`); TEMI's are the released ones with 16 heads and 100 epochs.

A whole plain run takes hours, so steps are timed for --seconds and the rest are left out, between
the real start (scaling, k-means, probabilities) and the real end (labels of all rows). Seconds in
all are what the process took, plus the steps left out at what a step took, plus the k-NN graph,
which is timed once for all methods. Every run is a process of its own; plain, same and default
take turns, so that noise hits all three. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

K = 10
K_NEIGHBORS = 50
# Steps before the clock starts: pages are first touched, libraries choose their kernels.
WARM_UP = 3
VARIANTS = ("plain", "same", "default")
METHODS = ("tsp", "temi", "cpp", "scp", "lsdc", "turtle", "infonce")
NEEDS_NEIGHBORS = {
    "plain": {"tsp", "temi", "scp", "infonce"},
    "same": {"tsp", "temi", "scp", "infonce"},
    "default": {"tsp", "temi", "scp", "infonce", "lsdc"},
}


def settings(method: str, n: int) -> dict[str, Any]:
    """Return the settings of the library that the plain version follows."""
    presets = import_module(f"imageherd.heads.{method}").PRESETS
    own = {
        "temi": lambda: {**presets["released"], "n_heads": 16, "epochs": 100},
        "cpp": lambda: presets["cifar10"],
        "lsdc": lambda: presets["cifar10"],
    }
    found: dict[str, Any] = dict(own.get(method, lambda: presets["paper"])())
    # Where few rows are given to try this program out: at most n/4, for plain as for ours.
    usual = {"scp": 512, "infonce": 4096}
    found["batch_size"] = min(found.get("batch_size") or usual[method], n // 4)
    return found


class Clock:
    """Says when enough steps of a kind are timed; asked before every step.

    Steps of epochs before `start` are one kind (CPP's, which maximise R(Z) alone), the others
    another.
    """

    def __init__(self, seconds: float, start: int = 0) -> None:
        self.seconds, self.start = seconds, start
        self.began: list[list[float]] = [[], []]
        self.asked = [0, 0]
        self.closed = [False, False]
        self.first = self.last = 0.0

    def __call__(self, epoch: int) -> bool:
        """Return whether to leave this step out."""
        now = self.last = time.perf_counter()
        self.first = self.first or now
        kind = int(epoch >= self.start)
        self.asked[kind] += 1
        began = self.began[kind]
        if not self.closed[kind]:
            began.append(now)
            timed = len(began) > WARM_UP + 3
            self.closed[kind] = timed and now - began[WARM_UP] > self.seconds
        return self.closed[kind]

    def report(self) -> list[dict[str, float]]:
        """Return steps done and seconds a step of each kind that there was."""
        found = []
        for began, closed in zip(self.began, self.closed, strict=True):
            if len(began) > 1:
                warm = min(WARM_UP, len(began) - 2)
                each = (began[-1] - began[warm]) / (len(began) - 1 - warm)
                found.append({"done": len(began) - closed, "seconds_a_step": each})
        return found


def fit_plain(method: str, X: np.ndarray, ids: np.ndarray, seconds: float) -> dict[str, Any]:
    module = import_module(f"plain.{method}")
    fit = module.fit_loop if method == "temi" else module.fit
    given = {"neighbors": ids} if method in NEEDS_NEIGHBORS["plain"] else {}
    clock = Clock(seconds, start=1 if method == "cpp" else 0)
    began = time.perf_counter()
    fit(X, n_clusters=K, batch_size=settings(method, len(X))["batch_size"], enough=clock, **given)
    return timed(clock, began)


def fit_ours(
    method: str, X: np.ndarray, graph: Any, seconds: float, params: dict[str, Any]
) -> dict[str, Any]:
    from imageherd.heads import HEADS

    head = HEADS[method](K, random_state=0, device="cpu", **params)
    clock = Clock(seconds, start=getattr(head, "start_epochs", 0))
    leave_steps_out(method, clock)
    began = time.perf_counter()
    head.fit(X, neighbors=graph)
    return {**timed(clock, began), "steps": [a for a in clock.asked if a]}


def leave_steps_out(method: str, clock: Clock) -> None:
    """Have the method's training loop ask the clock before every step."""
    import torch

    module = import_module(f"imageherd.heads.{'cpp_network' if method == 'cpp' else method}")
    real = module.train

    def train(step: Any, *args: Any, **kwargs: Any) -> Any:
        def some(rows: Any, epoch: int) -> Any:
            return torch.zeros(()) if clock(epoch) else step(rows, epoch)

        return real(some, *args, **kwargs)

    module.train = train


def timed(clock: Clock, began: float) -> dict[str, Any]:
    ended = time.perf_counter()
    return {
        "start": clock.first - began,
        "end": ended - clock.last,
        "seconds": ended - began,
        "kinds": clock.report(),
    }


def find_neighbors(variant: str, X: np.ndarray, path: Path) -> dict[str, Any]:
    began = time.perf_counter()
    if variant == "plain":
        import torch

        from plain.neighbors import nearest

        ids = nearest(torch.from_numpy(X), K_NEIGHBORS).numpy()
        seconds = time.perf_counter() - began
        np.save(path.with_suffix(".npy"), ids)
    else:
        from imageherd.neighbors import knn_graph

        graph = knn_graph(X, K_NEIGHBORS)
        seconds = time.perf_counter() - began
        graph.save(path)
    return {"seconds": seconds}


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Do one run in this process."""
    import torch

    X = np.load(task["features"])
    # The first optimizer of a process has PyTorch import its compiler: no part of any method.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    path, method, variant = Path(task["neighbors"]), task["method"], task["variant"]
    if method == "k-NN":
        facts = find_neighbors(variant, X, path)
    elif variant == "plain":
        needs = method in NEEDS_NEIGHBORS[variant]
        ids = np.load(path.with_suffix(".npy")) if needs else np.empty((0, 0))
        facts = fit_plain(method, X, ids, task["seconds"])
    else:
        from imageherd.neighbors import NeighborGraph

        params = settings(method, len(X)) if variant == "same" else {}
        graph = NeighborGraph.load(path) if method in NEEDS_NEIGHBORS[variant] else None
        facts = fit_ours(method, X, graph, task["seconds"], params)
    return {**facts, "peak_mb": peak_mb(), "threads": torch.get_num_threads()}


def peak_mb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Do one run in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{task['method']}, {task['variant']}: {done.stderr}")
    found = json.loads(done.stdout)
    kept = {name: task[name] for name in ("method", "variant", "repeat")}
    load = round(os.getloadavg()[0], 1)
    return {**kept, "load": load, **found}


def measure(args: argparse.Namespace, features: Path, folder: Path) -> list[dict[str, Any]]:
    """Take all runs, the variants in turn."""
    results = []
    plan = [
        (m, v) for m in ("k-NN", *args.methods) for v in VARIANTS if (m, v) != ("k-NN", "default")
    ]
    common = {
        "features": str(features),
        "neighbors": str(folder / "graph.safetensors"),
        "seconds": args.seconds,
    }
    for repeat in range(args.repeats):
        for method, variant in plan:
            task = {**common, "method": method, "variant": variant, "repeat": repeat}
            results.append(run(task))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    return results


def add_up(results: list[dict[str, Any]]) -> None:
    """Set each run's seconds in all; the plain versions take as many steps as ours."""
    for result in (r for r in results if r["method"] != "k-NN"):
        ours = "default" if result["variant"] == "default" else "same"
        steps = next(
            r["steps"] for r in results if (r["method"], r["variant"]) == (result["method"], ours)
        )
        result["steps"] = steps
        graph = 0.0
        if result["method"] in NEEDS_NEIGHBORS[result["variant"]]:
            of = "plain" if result["variant"] == "plain" else "same"
            graph = median(
                r["seconds"] for r in results if (r["method"], r["variant"]) == ("k-NN", of)
            )
        left_out = sum(
            (there - kind["done"]) * kind["seconds_a_step"]
            for there, kind in zip(steps, result["kinds"], strict=True)
        )
        result["k-NN"] = graph
        result["in_all"] = graph + result["seconds"] + left_out


def summarize(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each method and variant: medians, and what each run came to."""
    rows = []
    for method, variant in dict.fromkeys((r["method"], r["variant"]) for r in results):
        mine = [r for r in results if (r["method"], r["variant"]) == (method, variant)]
        every = [r["seconds" if method == "k-NN" else "in_all"] for r in mine]
        row = {"method": method, "variant": variant, "in_all": median(every), "runs": every}
        row["peak_mb"] = max(r["peak_mb"] for r in mine)
        if method != "k-NN":
            for name in ("start", "end", "k-NN"):
                row[name] = median(r[name] for r in mine)
            row["steps"] = mine[0]["steps"]
            each = zip(*(r["kinds"] for r in mine), strict=True)
            row["milliseconds_a_step"] = [
                1000 * median(kind["seconds_a_step"] for kind in kinds) for kinds in each
            ]
        rows.append(row)
    for row in rows:
        plain = next(r for r in rows if (r["method"], r["variant"]) == (row["method"], "plain"))
        row["times_faster"] = plain["in_all"] / row["in_all"]
    return rows


def to_markdown(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    n, d = facts["shape"]
    lines = [
        f"n = {n:,}, d = {d:,}, K = {K}; {facts['cpus']} cores ({facts['processor']}), "
        f"{facts['threads']} threads, torch {facts['versions']['torch']}; `{facts['command']}`",
        "",
        "| method | | k-NN s | start s | ms a step | steps | end s | seconds in all | each run "
        "| plain / this | peak MB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for row in rows:
        parts = [""] * 5
        if "steps" in row:
            parts = [
                f"{row['k-NN']:.0f}" if row["k-NN"] else "",
                f"{row['start']:.1f}",
                " / ".join(f"{ms:.3g}" for ms in row["milliseconds_a_step"]),
                " / ".join(f"{steps:,}" for steps in row["steps"]),
                f"{row['end']:.1f}",
            ]
        ratio = "" if row["variant"] == "plain" else f"{row['times_faster']:.2f}"
        cells = [
            row["method"],
            row["variant"],
            *parts,
            f"{row['in_all']:,.0f}",
            ", ".join(f"{seconds:,.0f}" for seconds in row["runs"]),
            ratio,
            f"{row['peak_mb']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def machine() -> dict[str, Any]:
    names = ("torch", "numpy", "scipy", "scikit-learn", "imageherd")
    info = Path("/proc/cpuinfo").read_text()
    flags = re.search(r"flags\s+: (.*)", info)[1].split()
    return {
        "cpus": os.cpu_count(),
        "processor": re.search(r"model name\s+: (.*)", info)[1],
        "avx512": "avx512f" in flags,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "environment": {name: v for name, v in os.environ.items() if name.startswith("OMP_")},
        "command": shlex.join(["python", *sys.argv]),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def prepare(args: argparse.Namespace, folder: Path) -> Path:
    """Return a file with the features asked for."""
    if args.features and not args.n:
        return args.features
    path = folder / "X.npy"
    if args.features:
        X = np.load(args.features, mmap_mode="r")[: args.n]
    else:
        X = np.random.default_rng(0).standard_normal(args.random, dtype=np.float32)[: args.n]
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    np.save(path, X)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", type=Path, help="X.npy, (n, d) float32")
    source.add_argument("--random", type=int, nargs=2, metavar=("N", "D"), help="unit vectors")
    source.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--n", type=int, help="take the first n rows only")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15, help="how long to time steps")
    parser.add_argument("--out", type=Path, default=Path("speed"), help="OUT.json and OUT.md")
    args = parser.parse_args()
    if args.task:
        print(json.dumps(work(args.task)))
        return
    facts = machine()
    with tempfile.TemporaryDirectory() as folder:
        features = prepare(args, Path(folder))
        facts["shape"] = np.load(features, mmap_mode="r").shape
        results = measure(args, features, Path(folder))
    add_up(results)
    facts |= {"threads": results[0]["threads"], "seconds_timed": args.seconds}
    rows = summarize(results)
    report = {**facts, "rows": rows, "runs": results}
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    args.out.with_suffix(".md").write_text(to_markdown(rows, facts))
    print(to_markdown(rows, facts), end="")


if __name__ == "__main__":
    main()
