"""One run in a process of its own: fit, predict, score; its time and its memory.

The grid starts ``python -m imageherd.bench.run`` with a job (JSON) on stdin; what it came to is
written to the file the job names.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imageherd.bench.featuresets import UNLABELLED, FeatureSet, Loaded
from imageherd.errors import ImageherdError
from imageherd.files import write_json

if TYPE_CHECKING:
    from imageherd.neighbors import NeighborGraph

# TSP's figure 1; the graph is made once a feature set and holds more.
CONSISTENCY_NEIGHBORS = 20
FOLDS = 5
VERSIONS = ("imageherd", "numpy", "torch", "scikit-learn")


def main() -> None:
    """Do the job on stdin."""
    job = json.load(sys.stdin)
    began = {"graph": make_graphs, "run": fit_and_score}[job["task"]]
    try:
        result = {"status": "ok", **began(job)}
    except Exception as error:
        result = {
            "status": "failed",
            "reason": _reason(error),
            "traceback": traceback.format_exc(),
        }
    write_json(Path(job["output"]), {**job["result"], **result})


def make_graphs(job: dict[str, Any]) -> dict[str, Any]:
    """Find the k nearest neighbours of the rows to fit and of those to score, and keep them.

    Returns
    -------
    dict
        `seconds` for the rows to fit; `label_consistency`: share of the nearest neighbours that
        have a row's true label, mean over the rows to score; None unless all have one.
    """
    from imageherd.metrics import neighbor_consistency

    fit, score = FeatureSet.from_json(job["features"]).load()
    started = time.perf_counter()
    graph = _make_graph(fit, job, "fit")
    seconds = time.perf_counter() - started
    if score is not None:
        graph = _make_graph(score, job, "score")
    y = (score or fit).y
    labelled = y is not None and (y != UNLABELLED).all()
    k = min(CONSISTENCY_NEIGHBORS, graph.k)
    consistency = neighbor_consistency(graph, y, k) if y is not None and labelled else None
    return {"seconds": seconds, "label_consistency": consistency}


def _make_graph(part: Loaded, job: dict[str, Any], which: str) -> NeighborGraph:
    from imageherd.heads.scaling import unit_blocks
    from imageherd.neighbors import knn_graph

    rows = part.X if part.blocks is None else unit_blocks(part.X, part.blocks)
    graph = knn_graph(rows, min(job["k"], len(rows) - 1), device=job["device"])
    graph.save(job["graphs"][which])
    return graph


def fit_and_score(job: dict[str, Any]) -> dict[str, Any]:
    """Fit a method, predict the rows to score, and compare with labels and without.

    Returns
    -------
    dict
        n, n_scored, d, n_clusters, seconds and cpu_seconds (the fit alone; the second over all
        threads), peak_mb (of the whole process up to the end of the fit, Python and its libraries
        included), scores (empty without labels), label_free, warnings, versions.
    """
    from imageherd.heads.make import make_head
    from imageherd.neighbors import NeighborGraph

    fit, score = FeatureSet.from_json(job["features"]).load()
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in job["params"].items()}
    if fit.blocks is not None:
        params.setdefault("blocks", fit.blocks)
    head = make_head(
        job["method"],
        job["n_clusters"],
        len(fit.X),
        random_state=job["seed"],
        device=job["device"],
        **params,
    )
    # Told other blocks than the data has, a method makes its own graph.
    wants_graph = hasattr(head, "n_neighbors") and params.get("blocks") == fit.blocks
    graph = NeighborGraph.load(job["graphs"]["fit"]) if wants_graph else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        started, cpu_started = time.perf_counter(), time.process_time()
        head.fit(fit.X, neighbors=graph)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        peak = peak_mb()
        rows = score or fit
        labels, P = head.predict(rows.X), head.predict_proba(rows.X)
    graph = NeighborGraph.load(job["graphs"]["fit" if score is None else "score"])
    return {
        "n": len(fit.X),
        "n_scored": len(rows.X),
        "d": fit.X.shape[1],
        "n_clusters": job["n_clusters"],
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": peak,
        "scores": _scores(rows, labels),
        "label_free": _label_free(rows, labels, P, graph),
        "warnings": [str(w.message) for w in caught if "imageherd" in str(w.filename)],
        "versions": {name: version(name) for name in VERSIONS},
    }


def _scores(rows: Loaded, labels: Any) -> dict[str, float]:
    from imageherd.metrics import scores

    if rows.y is None:
        return {}
    labelled = rows.y != UNLABELLED
    if not labelled.any():
        return {}
    return scores(rows.y[labelled], labels[labelled])


def _label_free(rows: Loaded, labels: Any, P: Any, graph: NeighborGraph) -> dict[str, float | None]:
    from imageherd.metrics import generalization_score, mean_entropies, neighbor_consistency

    marginal, conditional = mean_entropies(P)
    placed = labels[labels >= 0]
    general = None
    if len(placed) >= FOLDS:
        general = generalization_score(
            rows.X, labels, blocks=rows.blocks, folds=FOLDS, adjusted=True
        )
    return {
        "consistency": neighbor_consistency(graph, labels, min(CONSISTENCY_NEIGHBORS, graph.k)),
        "generalization": general,
        "marginal_entropy": marginal,
        "conditional_entropy": conditional,
        "used_clusters": len(np.unique(placed)),
    }


def peak_mb() -> float | None:
    """Return the most memory this process has held, in MB (10⁶ bytes); None if not known."""
    try:
        # A process started from a large one inherits that one's ru_maxrss; VmHWM is its own.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, (ImageherdError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
