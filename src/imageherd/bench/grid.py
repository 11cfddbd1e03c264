"""The grid: methods × feature sets × seeds, each run kept as one file, only missing ones run.

A run is known by its method, parameters, seed, number of clusters, the hash of its data and the
version of imageherd. Its file is written whole or not at all, so a grid that was stopped is taken
up by the same call; a run that failed is tried again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imageherd.bench.featuresets import FeatureSet
from imageherd.cores import usable_cores
from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_json
from imageherd.progress import progress

FORMAT = 1
# As many as a herd keeps; heads take the first of them.
N_NEIGHBORS = 50

Result = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A method as it takes part.

    Parameters
    ----------
    name : str
        What it is called in the table.
    method : str
        One of `imageherd.heads.HEADS`.
    params : dict
        Its parameters that differ from the defaults.
    """

    name: str
    method: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One cell of the grid: a method on a feature set from one seed, into `n_clusters`."""

    entry: Entry
    features: FeatureSet
    n_clusters: int
    seed: int


def plan(
    entries: Sequence[Entry],
    features: Sequence[FeatureSet],
    seeds: Sequence[int],
    n_clusters: int | None = None,
) -> list[Run]:
    """List the runs of a grid, feature set by feature set, method by method.

    Parameters
    ----------
    entries : sequence of Entry
        Methods.
    features : sequence of FeatureSet
        Feature sets.
    seeds : sequence of int
        Seeds.
    n_clusters : int, optional
        By default the number of classes that occur among the labels.

    Raises
    ------
    ImageherdError
        If a feature set cannot be read, or has no labels to count and `n_clusters` is not given.
    """
    runs = []
    for data in features:
        facts = data.facts()
        k = n_clusters or facts.n_classes
        if k is None:
            raise ImageherdError(
                f"{data.name} has no labels to count the classes of; give --n-clusters."
            )
        if not 2 <= k <= facts.n:
            raise ImageherdError(
                f"{k} clusters do not suit {data.name} with its {facts.n:,} rows; give a number "
                f"from 2 to {facts.n}."
            )
        runs += [Run(entry, data, k, seed) for entry in entries for seed in seeds]
    return runs


def run_grid(
    runs: Sequence[Run],
    out: str | Path,
    *,
    device: str = "auto",
    on_result: Callable[[Result, bool], None] | None = None,
) -> list[Result]:
    """Do the runs that `out` lacks and return the results of all.

    Each run is a process of its own: what it holds is gone when it ends, its peak of memory is its
    own, and if it dies the others go on. The k-NN graph of a feature set is made once for all
    methods, and is not part of a run's seconds.

    Parameters
    ----------
    runs : sequence of Run
        From `plan`.
    out : path
        Folder of the results: ``runs/*.json`` and ``graphs/``.
    device : str, default="auto"
        Where the methods train.
    on_result : callable, optional
        Called after each run with its result and whether it was there already.

    Returns
    -------
    list of dict
        In the order of `runs`; see `imageherd.bench.run.fit_and_score` for the keys. Each has
        method, features, seed, n_clusters, status ("ok" or "failed"), and then reason.

    Raises
    ------
    ImageherdError
        If a feature set cannot be read, or a method or the device is not known.
    """
    from imageherd.device import resolve_device

    grid = _Grid(Path(out), str(resolve_device(device)))
    results: list[Result] = []
    with progress("Benchmarking", len(runs), "runs") as advance:
        for run in runs:
            result, was_there = grid.result(run)
            results.append(result)
            advance(1)
            if on_result is not None:
                on_result(result, was_there)
    return results


class _Grid:
    def __init__(self, out: Path, device: str) -> None:
        self.out, self.device = out.absolute(), device
        self.digests: dict[FeatureSet, str] = {}

    def result(self, run: Run) -> tuple[Result, bool]:
        known = self._known(run)
        path = self.out / "runs" / f"{run.entry.method}-s{run.seed}-{_digest(known)}.json"
        names = {"method": run.entry.name, "features": run.features.name}
        if (there := _read(path)) and there["status"] == "ok" and there["known"] == known:
            graph = self._graph(run, known["data"], make=False)
            return {**there, **names, "graph": _facts(graph)}, True
        graph = self._graph(run, known["data"], make=True)
        facts = {"format": FORMAT, "known": known, "seed": run.seed, "n_clusters": run.n_clusters}
        if graph["status"] == "ok":
            job = {
                "task": "run",
                "output": str(path),
                "result": {**facts, "machine": machine()},
                "features": run.features.to_json(),
                "graphs": self._graph_files(known["data"]),
                "method": run.entry.method,
                "params": run.entry.params,
                "n_clusters": run.n_clusters,
                "seed": run.seed,
                "device": self.device,
            }
            result = _in_a_process(job)
        else:
            result = {**facts, "status": "failed", "reason": graph["reason"]}
        return {**result, **names, "graph": _facts(graph)}, False

    def _known(self, run: Run) -> dict[str, Any]:
        """Return what a result is known by; equal for equal runs only."""
        from imageherd.heads.make import make_head

        head = make_head(
            run.entry.method,
            run.n_clusters,
            run.n_clusters,
            random_state=run.seed,
            device=self.device,
            **run.entry.params,
        )
        if run.features not in self.digests:
            self.digests[run.features] = run.features.digest()
        known = {
            "method": run.entry.method,
            "params": head.get_params(),
            "data": self.digests[run.features],
            "imageherd": version("imageherd"),
        }
        plain: dict[str, Any] = json.loads(json.dumps(known, default=str))
        return plain

    def _graph_files(self, data: str) -> dict[str, str]:
        stem = self.out / "graphs" / data[:16]
        return {part: f"{stem}-k{N_NEIGHBORS}-{part}.safetensors" for part in ("fit", "score")}

    def _graph(self, run: Run, data: str, *, make: bool) -> Result:
        files = self._graph_files(data)
        path = self.out / "graphs" / f"{data[:16]}-k{N_NEIGHBORS}.json"
        there = _read(path)
        if there and there["status"] == "ok" and Path(files["fit"]).exists():
            return there
        if not make:
            return {}
        n = run.features.facts().n
        with progress(f"Nearest neighbors of {run.features.name}", n, "rows") as advance:
            job = {
                "task": "graph",
                "output": str(path),
                "result": {"format": FORMAT, "data": data},
                "features": run.features.to_json(),
                "graphs": files,
                "k": N_NEIGHBORS,
                "device": self.device,
            }
            result = _in_a_process(job)
            advance(n)
        return result


def _in_a_process(job: dict[str, Any]) -> Result:
    """Do a job in a new process and return what it wrote, or why it wrote nothing."""
    output = Path(job["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    # -P: a file of the user's called torch.py must not be imported.
    command = [sys.executable, "-P", "-m", "imageherd.bench.run"]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, text=True
        )
        try:
            process.communicate(json.dumps(job))
        except BaseException:
            # Ctrl-C or a bug: the run in hand is lost, nothing of it is left behind.
            process.kill()
            process.wait()
            output.unlink(missing_ok=True)
            raise
        result = _read(output)
        if result is None:
            said.seek(0)
            result = {**job["result"], "status": "failed", "reason": _death(process, said)}
            write_json(output, result)
    return result


def _facts(graph: Result) -> Result:
    return {name: graph.get(name) for name in ("seconds", "label_consistency")}


def _death(process: subprocess.Popen[str], said: Any) -> str:
    code = process.returncode
    if code == -9:
        return "its process was killed, most likely for want of memory"
    last = ([line.strip() for line in said if line.strip()] or [""])[-1]
    how = f"died of signal {-code}" if code < 0 else f"ended with code {code}"
    return f"its process {how}{f': {last}' if last else ''}"


def _read(path: Path) -> Result | None:
    """Return a kept result; None if there is none, or it is damaged or of another format."""
    try:
        found: Result = read_json(path)
        return found if found["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(known: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def machine() -> dict[str, Any]:
    """Say what the runs were measured on: system, processor, cores, threads, Python."""
    import platform

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
    }
