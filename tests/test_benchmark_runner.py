"""The runner of the benchmarks: what it plans, keeps, leaves out and shows."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import run
from parts import gpu, heads, table

RUNNER = Path(run.__file__)
FOUND = {
    "heads": {"seconds": 2.0, "ACC": 0.5, "n_clusters": 10, "d": 64, "peak_mb": 100},
    "knn": {"seconds": 2.0, "cpu_seconds": 2.0, "recall": 1.0, "peak_mb": 9, "own_mb": 8},
}


def call(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
    monkeypatch.setattr(run, "limit_threads", lambda threads: None)
    run.facts.cache_clear()
    return run.main()


def fake(monkeypatch, broken: str = "") -> Counter:
    """Have cases measured without being run, those of one method failing."""
    calls = Counter()

    def alone(what, part, case, options, folder):
        if what == "measure":
            calls[case["method"]] += 1
            if case["method"] == broken:
                raise MemoryError
        return FOUND[part]

    monkeypatch.setattr(run, "alone", alone)
    return calls


def record(method: str, variant: str, seed: int, seconds: float, acc: float) -> dict:
    case = {"data": "x", "n": 1000, "method": method, "variant": variant, "seed": seed}
    found = FOUND["heads"] | {"seconds": seconds, "ACC": acc, "other_work": 0.0}
    about = {"machine": {"cpu": "A", "cores": 2, "ram_gib": 8, "system": "Linux"}}
    about |= {"versions": {"numpy": "2"}, "commit": "abc", "command": "c", "date": "2026-11-22T10"}
    return {"part": "heads", "case": case | {"threads": 2, "device": "cpu"}, **found, **about}


@pytest.mark.parametrize("part", run.PARTS)
def test_every_part_plans_different_cases_of_plain_values(part):
    options = run.parse([part, "--sizes", "100", "200"])
    cases = [json.dumps(case) for case in run.import_module(f"parts.{part}").plan(options)]
    assert len(set(cases)) == len(cases) >= 2
    assert {json.loads(case)["n"] for case in cases} == {100, 200}


def test_a_failed_case_is_run_again_and_a_kept_one_is_not(monkeypatch, tmp_path, capsys):
    asked = ("knn", "--sizes", 10, "--dims", 4, "--out", tmp_path / "found.json")
    calls = fake(monkeypatch, broken="approx")
    assert call(monkeypatch, *asked) == 1
    assert "approx" in capsys.readouterr().err
    kept = json.loads((tmp_path / "found.json").read_text())
    assert "approx" not in [r["case"]["method"] for r in kept]
    again = fake(monkeypatch)
    assert call(monkeypatch, *asked) == 0
    assert set(calls) > set(again) == {"approx"}
    assert len(json.loads((tmp_path / "found.json").read_text())) == len(calls)


def test_another_machine_s_record_does_not_stand_for_ours(monkeypatch, tmp_path):
    asked = ("knn", "--sizes", 10, "--dims", 4, "--only", "method=exact")
    out = tmp_path / "found.json"
    fake(monkeypatch)
    call(monkeypatch, *asked, "--out", out)
    kept = json.loads(out.read_text())
    kept[0]["machine"]["cpu"] = "another"
    out.write_text(json.dumps(kept))
    assert fake(monkeypatch) == {}
    call(monkeypatch, *asked, "--out", out)
    assert len(json.loads(out.read_text())) == 2


def test_a_stop_by_hand_keeps_what_was_found(monkeypatch, tmp_path):
    def stopped(what, part, case, options, folder):
        if case["method"] == "approx":
            raise KeyboardInterrupt
        return FOUND[part]

    monkeypatch.setattr(run, "alone", stopped)
    out = tmp_path / "found.json"
    assert call(monkeypatch, "knn", "--sizes", 10, "--dims", 4, "--out", out) == 130
    assert [r["case"]["method"] for r in json.loads(out.read_text())] == ["exact"]


def test_where_files_lie_is_not_kept(monkeypatch, tmp_path):
    fake(monkeypatch)
    out = tmp_path / "found.json"
    call(monkeypatch, "knn", "--sizes", 10, "--dims", 4, "--out", out)
    assert str(tmp_path) not in out.read_text()
    assert "--out found.json" in json.loads(out.read_text())[0]["command"]


@pytest.mark.parametrize("text", ["", "[1]", '{"n": 1}', '[{"part": "other"}]'])
def test_a_file_of_something_else_is_left_alone(monkeypatch, tmp_path, text):
    other = tmp_path / "other.json"
    other.write_text(text)
    fake(monkeypatch)
    with pytest.raises(SystemExit, match="another name"):
        call(monkeypatch, "knn", "--sizes", 10, "--out", other)
    assert other.read_text() == text


def test_only_takes_fields_and_says_when_nothing_is_left(monkeypatch):
    with pytest.raises(SystemExit, match="No case is left"):
        call(monkeypatch, "knn", "--only", "method=brute")
    with pytest.raises(SystemExit):
        run.parse(["knn", "--only", "approx"])


def test_a_line_is_over_all_seeds_and_beside_plain():
    records = [
        record("tsp", "plain", 0, 40.0, 0.50),
        record("tsp", "default", 0, 8.0, 0.54),
        record("tsp", "default", 1, 12.0, 0.56),
        record("KMeans", "scikit-learn", 0, 1.0, 0.40),
    ]
    plain, ours, kmeans = heads.rows(records)
    assert (ours["s"], ours["seeds"], ours["ACC"]) == ("10.0", "2", "55.0 ± 1.4")
    assert (ours["plain's s / this"], ours["ACC more than plain's"]) == ("4.0", "+5.0")
    assert plain["plain's s / this"] == kmeans["plain's s / this"] == ""


def test_versions_do_not_share_a_table():
    records = [record("tsp", "default", seed, 8.0, 0.5) for seed in (0, 1)]
    assert table.to_markdown(records).count("### Heads") == 1
    records[1]["versions"] = {"numpy": "3"}
    found = table.to_markdown(records)
    assert found.count("### Heads") == 2
    assert "numpy 2" in found
    assert "numpy 3" in found


def test_what_needs_a_gpu_is_not_part_of_all_without_one(monkeypatch, capsys):
    call(monkeypatch, "all", "--list")
    assert "gpu: " not in capsys.readouterr().out
    call(monkeypatch, "all", "--device", "cuda", "--list")
    assert "gpu: method=temi, n=1280000, d=768, clusters=1000" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="gpu wants --device cuda"):
        call(monkeypatch, "gpu", "--list")


def test_the_gpu_s_cases_run_on_a_cpu_too(tmp_path):
    options = run.parse(["gpu", "--sizes", "800"])
    cases = {case["method"]: case for case in gpu.plan(options)}
    found = {}
    for method, case in cases.items():
        gpu.prepare(case, options, tmp_path)
        found[method] = gpu.measure(case, options, tmp_path)
    assert found["knn"]["recall"] == 1
    # Of 200 epochs one was run.
    temi = found["temi"]
    assert temi["full_s"] > 100 * temi["epoch_s"] > 0
    # 800 rows are a step an epoch: SCP finds some of the planted clusters, and TEMI more than none.
    assert found["scp"]["nmi"] > 0.3
    assert temi["nmi"] > 0
    kept = record("x", "", 0, 1, 1)
    records = [kept | found[method] | {"case": cases[method]} for method in found]
    assert [row["found"][:3] for row in gpu.rows(records)] == ["rec", "NMI", "NMI"]


def test_neighbours_of_the_own_cluster():
    kinds = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [5, 7, 9]))
    ids = gpu.within(kinds, 4)
    assert (kinds[ids] == kinds[:, None]).all()
    assert all(len({row, *near}) == 5 for row, near in enumerate(ids))


def test_the_documentation_has_the_tables_of_the_records_that_are_kept():
    kept = run.read(RUNNER.parent / "results.json")
    shown = (RUNNER.parents[1] / "docs" / "benchmarks.md").read_text()
    assert table.to_markdown(kept).replace("### ", "## ") in shown


def test_from_the_command_line_to_a_table(tmp_path):
    def python(*arguments):
        command = [sys.executable, RUNNER, "heads", "--out", "found.json", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    python("--only", "method=KMeans", "--threads", "1")
    (kept,) = json.loads((tmp_path / "found.json").read_text())
    # k-means finds most of scikit-learn's digits, and they are 1,797 pictures of ten.
    assert 0.7 < kept["ACC"] < 0.9
    assert (kept["d"], kept["n_clusters"], kept["case"]["n"]) == (64, 10, 1797)
    assert kept["took"] > kept["seconds"] > 0
    assert kept["machine"]["cores"] >= 1
    assert "| digits | 1,797 | 64 | KMeans |" in python("--table").stdout
