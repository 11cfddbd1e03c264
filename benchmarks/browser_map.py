"""How the map of a very large herd behaves in a browser: first paint, panning, rest, memory.

    python benchmarks/browser_map.py --points 1000000 --clusters 1000 --repeats 5

makes a herd of that size in the herd's own format (items, two numbers as features, a clustering, a
kept map; no pictures) in a temporary folder, or in --herd, where it is found again, serves it in a
process of its own and opens it in headless Chromium with WebGL in software (SwiftShader). Times are
the browser's own, from its tracing. First paint: from opening the link, the server and the browser
just started, to the presentation of the frame with the first points. Frames while panning: those
with the points at a new place that were presented. Rest: from the last input to the presentation
of the frame with the last points. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

TOKEN = "measuring-the-map"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1440,900"),
)
CATEGORIES = ["devtools.timeline", "blink.user_timing"]
# Says into the trace which points each call draws, and what came in; the page
# itself is as it is served.
MARKS = """
const { drawArrays } = WebGL2RenderingContext.prototype;
WebGL2RenderingContext.prototype.drawArrays = function (mode, first, count) {
  console.timeStamp(`draw ${first} ${first + count}`);
  return drawArrays.call(this, mode, first, count);
};
addEventListener("pointermove", () => console.timeStamp("input"), { capture: true });
addEventListener("pointerup", () => console.timeStamp("input"), { capture: true });
"""
N_MOVES = 150
ALL_DRAWN = "return document.querySelector('.map-over')?.dataset.drawn"
KEY = "planted"
SPREAD = 0.012


def make(folder: Path, n: int, k: int) -> None:
    """Write a herd of `n` points in `k` clusters, of sizes from many to few, and its map."""
    from imageherd.clustering import N_MEDOIDS, Cluster, Clustering
    from imageherd.derived import rows_digest
    from imageherd.features.items import Items
    from imageherd.features.writer import Writer
    from imageherd.files import write_atomically
    from imageherd.project import register_source, set_features
    from imageherd.versions import versions_of

    rng = np.random.default_rng(0)
    weights = 1 / np.arange(3, k + 3) ** 0.6
    uids = rng.choice(k, n, p=weights / weights.sum()).astype(np.int32) + 1
    angle, away = rng.uniform(0, 2 * np.pi, k), np.sqrt(rng.uniform(0, 1, k))
    centers = np.stack([away * np.cos(angle), away * np.sin(angle)], axis=1)
    wide = SPREAD * (0.5 + rng.uniform(0, 1.5, (k, 1)))
    xy = (centers[uids - 1] + wide[uids - 1] * rng.normal(size=(n, 2))).astype(np.float32)

    register_source(folder, "folder:/photos")
    items = Items(folder / "items")
    for start in range(0, n, items.part_rows):
        names = [
            f"2026/{i // 1000:04d}/IMG_{i:08d}.jpg" for i in range(n)[start:][: items.part_rows]
        ]
        each = [1] * len(names)
        items.append(
            {
                **{
                    "key": [name.encode() for name in names],
                    "path": names,
                    "source": [0] * len(names),
                },
                **{"content_hash": names, "width": each, "height": each, "bytes": each},
                **{"mtime_ns": each, "status": ["ok"] * len(names), "reason": [""] * len(names)},
            }
        )
    items.save()
    backbone = SimpleNamespace(key=KEY, identity={"output": "features"}, dim=2)
    writer = Writer(folder / "features" / KEY, backbone, items.part_rows)
    for index in range(-(-n // items.part_rows)):
        rows = slice(index * items.part_rows, (index + 1) * items.part_rows)
        block = writer.open_block(index, len(xy[rows]))
        block.features[:], block.missing[:] = xy[rows], False
        block.changed = True
        writer.commit(block, lambda: None)
    set_features(folder, KEY, KEY)

    order = np.argsort(uids, kind="stable")
    edges = np.searchsorted(uids[order], np.arange(1, k + 2))
    sure = rng.beta(6, 1, n).astype(np.float32)
    clusters = []
    for c in range(k):
        members = order[edges[c] : edges[c + 1]]
        mean = float(sure[members].mean())
        clusters.append(
            Cluster(c + 1, f"kind {c + 1}", len(members), mean, members[:N_MEDOIDS].tolist())
        )
    clusters.sort(key=lambda c: (-c.size, c.uid))
    config = {"method": "planted", "features": KEY, "params": {"random_state": 0}}
    config |= {"uids": list(range(1, k + 1)), "next_uid": k + 1}
    rows = np.arange(n)
    found = Clustering("default", "", rows, uids, sure, uids % k + 1, clusters, config)
    no_head = SimpleNamespace(save=lambda folder: folder.mkdir(parents=True))
    versions_of(folder, "default").write(found, no_head, [])
    path = folder / "report" / f"map-{KEY}-{rows_digest(rows)}.npy"
    write_atomically(path, lambda file: np.save(file, xy))


class Trace:
    """The browser's tracing, from now until `events` is called."""

    def __init__(self, driver: Any) -> None:
        import websocket

        at = driver.capabilities["goog:chromeOptions"]["debuggerAddress"]
        with urllib.request.urlopen(f"http://{at}/json/version") as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        self._socket = websocket.create_connection(address, suppress_origin=True, timeout=60)
        config = {"includedCategories": CATEGORIES, "recordMode": "recordUntilFull"}
        self._tell(1, "Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config})
        while json.loads(self._socket.recv()).get("id") != 1:
            pass

    def events(self) -> list[dict[str, Any]]:
        """End it; returns what was recorded, by time in microseconds."""
        self._tell(2, "Tracing.end", {})
        found: list[dict[str, Any]] = []
        while (message := json.loads(self._socket.recv())).get(
            "method"
        ) != "Tracing.tracingComplete":
            if message.get("method") == "Tracing.dataCollected":
                found += message["params"]["value"]
        self._socket.close()
        return sorted(found, key=lambda event: event.get("ts", 0))

    def _tell(self, number: int, method: str, params: dict[str, Any]) -> None:
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))


def drawn(events: list[dict[str, Any]]) -> list[tuple[float, int, int]]:
    """Return when points came on the screen, in ms, and which: from, up to.

    A draw belongs to the animation frame that it is called in; the frame's presentation is when the
    compositor says that it was shown.
    """
    begun: dict[str, tuple[float, str]] = {}
    spans, shown = [], {}
    for event in events:
        if event["name"] == "AnimationFrame::Presentation":
            shown[event["args"]["id"]] = event["ts"]
        elif event["name"] == "AnimationFrame" and event["ph"] == "b":
            begun[_id(event)] = event["ts"], event["args"]["id"]
        elif event["name"] == "AnimationFrame" and event["ph"] == "e" and _id(event) in begun:
            start, name = begun.pop(_id(event))
            spans.append((start, event["ts"], name))
    frames = [(start, stop, shown[name]) for start, stop, name in spans if name in shown]
    found = []
    for at, said in marks(events):
        if said.startswith("draw "):
            first, end = map(int, said.split()[1:])
            found += [
                (when / 1e3, first, end)
                for start, stop, when in frames
                if start <= at * 1e3 <= stop
            ]
    return found


def marks(events: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """Return what was said into the trace, and when, in ms."""
    said = (e for e in events if e["name"] == "TimeStamp")
    return [(e["ts"] / 1e3, e["args"]["data"].get("message", "")) for e in said]


def _id(event: dict[str, Any]) -> str:
    return f"{event['pid']} {event['id2']['local']}"


@contextmanager
def serving(herd: Path) -> Iterator[tuple[str, int]]:
    """`imageherd serve` in a process of its own: its address, and the process's number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "imageherd", "serve", str(herd), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--token", TOKEN, "--no-browser"], stdout=subprocess.DEVNULL
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None:
                raise SystemExit("imageherd serve did not start.")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def browse(folder: str) -> Any:
    """Start a browser of its own, with nothing kept from before."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": MARKS})
    return driver


def wait(driver: Any) -> None:
    """Wait until all points are drawn."""
    end = time.monotonic() + 120
    while not driver.execute_script(ALL_DRAWN):
        if time.monotonic() > end:
            raise SystemExit("The map was not drawn within two minutes.")
        time.sleep(0.05)


def measure(herd: Path, n: int) -> dict[str, float]:
    """Open the map of a server just started, in a browser just started; pan it, and rest."""
    with serving(herd) as (address, pid), tempfile.TemporaryDirectory() as profile:
        driver = browse(profile)
        try:
            found = _opened(driver, address, n) | _panned(driver, n)
            found |= _used(driver, address)
            return found | {
                "server_rss_mb": _rss(pid, "VmRSS"),
                "server_peak_mb": _rss(pid, "VmHWM"),
            }
        finally:
            driver.quit()


def _opened(driver: Any, address: str, n: int) -> dict[str, float]:
    trace = Trace(driver)
    driver.get(f"{address}/?token={TOKEN}#/c/default/map")
    wait(driver)
    time.sleep(0.3)
    events = trace.events()
    frames = drawn(events)
    # The link leads on to the page without the token; a person waits from the first of the two.
    starts = [e["ts"] / 1e3 for e in events if e["name"] == "navigationStart"]
    start = min(at for at in starts if at > events[0].get("ts", 0) / 1e3 - 1e9)
    full = next(at for at, _, end in frames if end == n)
    return {"first_paint_s": (frames[0][0] - start) / 1e3, "all_points_s": (full - start) / 1e3}


def _panned(driver: Any, n: int) -> dict[str, float]:
    from selenium.webdriver.common.action_chains import ActionChains

    over = driver.find_element("css selector", ".map-over")
    driver.execute_script("document.querySelector('[aria-label=\"Zoom in\"]').click()")
    wait(driver)
    steps = ActionChains(driver, duration=16).move_to_element(over).click_and_hold()
    for i in range(N_MOVES):
        steps.move_by_offset(4 if i % 60 < 30 else -4, 2 if i % 2 else -2)
    steps.release()
    trace = Trace(driver)
    steps.perform()
    wait(driver)
    time.sleep(0.3)
    events = trace.events()
    frames = drawn(events)
    inputs = [at for at, said in marks(events) if said == "input"]
    # The first move only goes to the middle; the last draw is not due before the last input.
    moving = [at for at, first, _ in frames if first == 0 and inputs[2] <= at <= inputs[-1]]
    gaps = np.diff(moving)
    full = next(at for at, _, end in frames if end == n and at > inputs[-1])
    return {
        "pan_s": (inputs[-1] - inputs[2]) / 1e3,
        "pan_frames_per_s": len(gaps) / (moving[-1] - moving[0]) * 1e3,
        "pan_gap_ms_median": float(np.median(gaps)),
        "pan_gap_ms_p95": float(np.quantile(gaps, 0.95)),
        "pan_points_median": float(
            np.median([e for at, f, e in frames if at in moving and f == 0])
        ),
        "rest_to_all_points_s": (full - inputs[-1]) / 1e3,
    }


def _used(driver: Any, address: str) -> dict[str, float]:
    """Ask what the other views ask, and edit once."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    base = f"{address}/api/clusterings/default"

    def ask(path: str, body: dict[str, Any] | None = None) -> tuple[float, Any]:
        data = None if body is None else json.dumps(body).encode()
        started = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(base + path, data, headers)) as answer:
            content = answer.read()
        return time.perf_counter() - started, content

    timed = {}
    timed["clustering_s"], _ = ask("")
    timed["members_s"], members = ask("/clusters/1/members?limit=1000&order=doubtful")
    timed["confidence_s"], _ = ask("/map/confidence")
    timed["labels_s"], _ = ask("/map/labels?of=folder")
    rows = [item["row"] for item in json.loads(members)["items"][:10]]
    timed["move_s"], _ = ask("/edits", {"kind": "move", "rows": rows, "to": 2})
    timed["uids_after_s"], _ = ask("/map/uids")
    timed["undo_s"], _ = ask("/undo", {})
    return timed


def _rss(pid: int, which: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--herd", type=Path, help="where the herd is kept; made if it is not there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        herd = args.herd or Path(folder) / "planted.herd"
        if not herd.exists():
            make(herd, args.points, args.clusters)
        runs = []
        for _ in range(args.repeats):
            load = os.getloadavg()[0]
            runs.append(measure(herd, args.points) | {"load_before": load})
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    medians = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
    print(json.dumps({"about": _about(args), "median": medians, "runs": runs}, indent=2))


def _about(args: argparse.Namespace) -> dict[str, Any]:
    chromium = subprocess.run(["chromium", "--version"], capture_output=True, text=True, check=True)
    return {
        "points": args.points,
        "clusters": args.clusters,
        "repeats": args.repeats,
        "cores": os.cpu_count(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "imageherd": version("imageherd"),
        "chromium": chromium.stdout.strip(),
        "webgl": "SwiftShader, 1440 x 900",
    }


if __name__ == "__main__":
    main()
