"""Every speed benchmark behind one command: JSON records in a file, and a table made from them.

    python benchmarks/run.py knn --sizes 10000 50000 --out results.json
    python benchmarks/run.py heads --features X.npy --labels y.npy --only method=tsp,temi seed=0
    python benchmarks/run.py all --table > table.md

Every case runs in a process of its own and its record is kept at once; a case that the file has
already, from this machine, is left out, so the same command goes on where it was stopped. A case
that fails is said and left out, and the exit status is 1. A record carries the machine, how many of
its cores worked for others meanwhile, versions, commit, date and command. --list shows the
cases and --table makes the table; neither runs any. More in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

EVERYWHERE = ("embed", "knn", "heads", "growth")
PARTS = (*EVERYWHERE, "gpu")
PACKAGES = ("torch", "onnxruntime", "faiss-cpu", "scikit-learn", "numpy", "clustpy")
THREADS = ("OMP", "OPENBLAS", "MKL")

Case = dict[str, Any]


def main() -> int:
    options = parse()
    kept = read(options.out)
    parts = (options.part,)
    if options.part == "all":
        parts = PARTS if options.table or options.device != "cpu" else EVERYWHERE
    if options.table:
        from parts.table import to_markdown

        records = [r for r in kept if r["part"] in parts]
        if not records:
            raise SystemExit(f"{options.out} has no record of {', '.join(parts)}.")
        print(to_markdown(records))
        return 0
    limit_threads(options.threads)
    plan = [(p, c) for p in parts for c in import_module(f"parts.{p}").plan(options)]
    plan = [(p, c) for p, c in plan if all(matches(c, *only) for only in options.only)]
    if not plan:
        raise SystemExit("No case is left: --list without --only shows what there is.")
    if options.list:
        print("\n".join(f"{part}: {said(case)}" for part, case in plan))
        return 0
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        return run(plan, kept, options, Path(folder))


def run(plan: list[tuple[str, Case]], kept: list[Case], options: Any, folder: Path) -> int:
    done = [key(r["part"], r["case"], r["machine"]) for r in kept]
    failed = 0
    for part, case in plan:
        if key(part, case, machine()) in done and not options.profile:
            continue
        try:
            record = measured(part, case, options, folder)
        except KeyboardInterrupt:
            note("Stopped; the same command goes on from here.")
            return 130
        except Exception as error:  # A worker may die of anything, memory above all.
            note(f"{part}: {said(case)}: {type(error).__name__}: {error}")
            failed += 1
            continue
        note(json.dumps({name: record[name] for name in record if name not in facts()}))
        if not options.profile:
            kept.append(record)
            save(kept, options.out)
    return int(failed > 0)


def measured(part: str, case: Case, options: Any, folder: Path) -> Case:
    alone("prepare", part, case, options, folder)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    began, busy, own = time.perf_counter(), busy_seconds(), own_seconds()
    found = alone("measure", part, case, options, folder)
    took = time.perf_counter() - began
    others = max(0.0, busy_seconds() - busy - (own_seconds() - own)) / took
    timing = {"took": round(took, 1), "other_work": round(others, 2), "date": date}
    return {"part": part, "case": case, **found, **timing, **facts()}


def busy_seconds() -> float:
    """Return what all cores have worked since they were started, for anybody."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split()[1:9]]
    idle, waiting = ticks[3:5]
    return (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return what this process and the finished ones it started have worked."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def alone(what: str, part: str, case: Case, options: Any, folder: Path) -> Any:
    """Call a part's function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, what, part, case, options, folder).result()


def call(what: str, part: str, case: Case, options: Any, folder: Path) -> Any:
    function = getattr(import_module(f"parts.{part}"), what)
    if what == "prepare" or not options.profile:
        return function(case, options, folder)
    profile = cProfile.Profile()
    found = profile.runcall(function, case, options, folder)
    options.profile.mkdir(parents=True, exist_ok=True)
    words = "-".join(str(value) for value in case.values())
    profile.dump_stats(options.profile / f"{part}-{words.replace(' ', '_').replace('/', '_')}.prof")
    return found


@cache
def facts() -> Case:
    """Return what every record of this call carries."""
    versions = {"imageherd": version("imageherd"), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    # Where somebody keeps their files is nobody else's business.
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    command = shlex.join(["python", "benchmarks/run.py", *words])
    return {"machine": machine(), "versions": versions, "commit": commit(), "command": command}


@cache
def machine() -> Case:
    from knn import processor

    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "ram_gib": round(ram, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def limit_threads(threads: int) -> None:
    """Set what the processes started from here read."""
    os.environ |= {f"{library}_NUM_THREADS": str(threads) for library in THREADS}
    # joblib's count, which the package asks; and waiting threads sleep, as under the command line.
    os.environ |= {"LOKY_MAX_CPU_COUNT": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def key(part: str, case: Case, where: Case) -> str:
    return json.dumps([part, case, where], sort_keys=True)


def said(case: Case) -> str:
    return ", ".join(f"{name}={value}" for name, value in case.items())


def matches(case: Case, name: str, values: list[str]) -> bool:
    return name in case and str(case[name]) in values


def read(path: Path) -> list[Case]:
    if not path.exists():
        return []
    try:
        kept: list[Case] = json.loads(path.read_text())
        known = all(record["part"] in PARTS for record in kept)
    except (OSError, ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise SystemExit(f"{path} has no records of this program; give --out another name.")
    return kept


def save(records: list[Case], path: Path) -> None:
    text = "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n"
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.replace(path)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def only(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise argparse.ArgumentTypeError(f"{text} is not FIELD=VALUE[,VALUE]")
    return name, values.split(",")


def positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=(*PARTS, "all"))
    parser.add_argument("--sizes", nargs="+", type=positive, help="rows or images; by part if not")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="JSON, added to")
    parser.add_argument("--table", action="store_true", help="only print OUT as Markdown")
    parser.add_argument("--list", action="store_true", help="only print the cases")
    parser.add_argument(
        "--only", nargs="+", type=only, default=[], metavar="FIELD=VALUE[,VALUE]", help="cases"
    )
    parser.add_argument("--threads", type=positive, default=cores, help="of every library")
    parser.add_argument("--work", type=Path, help="where a temporary folder goes, some GB")
    parser.add_argument("--profile", type=Path, help="folder: cProfile each case, keep no record")
    parser.add_argument("--device", default="cpu", help="of embed, heads and gpu")
    parser.add_argument(
        "--repeats", type=positive, default=1, help="embed: runs, of which the median"
    )
    parser.add_argument("--backbones", nargs="+", help="embed: these, not the two of its own")
    parser.add_argument("--dims", nargs="+", type=positive, default=[384, 1280], help="knn: d")
    parser.add_argument("--features", type=Path, help="heads: X.npy, (n, d) float32; digits if not")
    parser.add_argument("--labels", type=Path, help="heads: y.npy, (n,)")
    parser.add_argument("--heads", type=positive, default=16, help="growth: TEMI's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="heads")
    options = parser.parse_args(arguments)
    if (options.features is None) != (options.labels is None):
        parser.error("--features and --labels go together")
    for path in (options.features, options.labels, options.work):
        if path and not path.exists():
            parser.error(f"there is no {path}")
    return options


if __name__ == "__main__":
    sys.exit(main())
