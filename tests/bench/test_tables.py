"""Means, deviations, and their forms for people and programs."""

import csv
import io
import math

import pytest

from imageherd.bench.tables import Number, cell, columns, heading, summarize, to_csv, to_markdown


def result(method="tsp", seed=0, acc=0.5, **changes):
    return {
        "status": "ok",
        "method": method,
        "features": "clothes",
        "seed": seed,
        "n": 3781,
        "n_scored": 3781,
        "d": 1280,
        "n_clusters": 10,
        "seconds": 2.0 + seed,
        "peak_mb": 612.4,
        "scores": {"ACC": acc, "NMI": 0.25, "ARI": 0.125, "AMI": 0.0625},
        "label_free": {
            "consistency": 0.75,
            "generalization": None,
            "marginal_entropy": 2.25,
            "conditional_entropy": 0.5,
            "used_clusters": 10 - seed,
        },
        "warnings": ["TSP used 9 of 10 clusters"] if seed else [],
        "versions": {"imageherd": "0.1.0", "torch": "2.5"},
        "machine": {"system": "Linux x86_64", "cores": 2, "omp_threads": "1", "python": "3.11.2"},
        "graph": {"seconds": 1.25, "label_consistency": 0.7},
        **changes,
    }


def failed(seed=2):
    common = {"method": "tsp", "features": "clothes", "seed": seed, "n_clusters": 10}
    return {**common, "status": "failed", "reason": "not enough memory", "graph": {}}


RESULTS = [result(acc=0.4), result("kmeans"), result(seed=1, acc=0.6), failed()]


def test_seeds_are_put_together():
    tsp, kmeans = summarize(RESULTS)
    assert (tsp.method, kmeans.method) == ("tsp", "kmeans")
    assert tsp.seeds == [0, 1]
    assert tsp.numbers["ACC"].mean == pytest.approx(0.5)
    # The sample's: two values 0.2 apart deviate by 0.2 / √2.
    assert tsp.numbers["ACC"].std == pytest.approx(0.2 / math.sqrt(2))
    assert kmeans.numbers["ACC"] == Number(0.5, None)
    assert tsp.failures == ["seed 2: not enough memory"]
    assert tsp.warnings == ["TSP used 9 of 10 clusters"]


def test_cells():
    tsp, kmeans = summarize(RESULTS)
    expected = {
        "ACC": ("50.0 ± 14.1", "50.0"),
        "consistency": ("75.0 ± 0.0", "75.0"),
        "marginal_entropy": ("2.25 ± 0.00", "2.25"),
        "used_clusters": ("9.5 ± 0.7", "10"),
        "seconds": ("2.5 ± 0.7", "2.0"),
        "peak_mb": ("612", "612"),
    }
    assert {name: (cell(tsp, name), cell(kmeans, name)) for name in expected} == expected
    (nothing,) = summarize([failed()])
    assert cell(nothing, "ACC") == "failed"
    assert cell(kmeans, "generalization") == "–"
    assert "generalization" not in columns([tsp, kmeans])


def test_the_heading_says_what_the_rows_share():
    rows = summarize(RESULTS)
    text = heading(rows, RESULTS)
    assert text.startswith("clothes: 3,781 × 1,280, 10 clusters, 3 seeds")
    assert "70.0 % of the 20 nearest have the true label" in text
    split = [result(n_scored=800)]
    assert "scored on 800 others" in heading(summarize(split), split)


def test_csv_holds_numbers_and_their_deviations():
    tsp, kmeans = csv.DictReader(io.StringIO(to_csv(summarize(RESULTS))))
    assert float(tsp["ACC"]) == pytest.approx(0.5)
    assert float(tsp["ACC_std"]) == pytest.approx(0.2 / math.sqrt(2))
    assert kmeans["ACC_std"] == kmeans["generalization"] == ""
    assert tsp["failures"] == "seed 2: not enough memory"
    assert (kmeans["n"], kmeans["d"], kmeans["n_clusters"], kmeans["seeds"]) == (
        *("3781", "1280", "10"),
        "1",
    )


def test_markdown_is_a_table_with_its_command_and_machine():
    named = [result("a|b")]
    text = to_markdown(summarize(named), named, "imageherd bench x")
    lines = text.splitlines()
    (head,) = [i for i, line in enumerate(lines) if line.startswith("| method ")]
    assert "H(c\\|x)" in lines[head]
    assert lines[head].replace("\\|", "").count("|") == lines[head + 1].count("|")
    assert lines[head + 2].startswith("| a\\|b | 50.0 |")
    assert "`imageherd bench x`" in text
    assert "Linux x86_64, 2 cores, OMP_NUM_THREADS=1, Python 3.11.2, imageherd 0.1.0" in text


def test_a_table_of_failures_only_is_a_table():
    rows = summarize([failed()])
    assert "not enough memory" in to_markdown(rows, [failed()])
    assert "not enough memory" in to_csv(rows)
