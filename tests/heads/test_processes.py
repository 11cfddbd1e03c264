"""Two processes on a CPU learn what one does; when one ends, all end, and say why.

The numbers they add up, and how far apart results may be, are `test_ranks`'s; here they are real
processes. Starting two takes some 5 s of a core, so few are started.
"""

import os
import queue
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from imageherd import fabric
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS, processes, worker
from imageherd.heads.loop import LossNotFiniteError, Run
from imageherd.heads.ranks import LostTouchError
from imageherd.heads.worker import Task
from imageherd.progress import reporting

SMALL = {
    "temi": {"n_heads": 3, "epochs": 4, "min_steps": 0},
    "cpp": {"hidden": 32, "n_features_out": 12, "epochs": 4, "min_steps": 0},
}


@pytest.fixture(scope="module")
def blobs():
    X = make_blobs(200, n_features=16, centers=4, cluster_std=2.0, random_state=0)[0]
    return X.astype(np.float32)


@pytest.fixture
def started(monkeypatch):
    """The processes that are started, in order."""
    every, start = [], processes._start

    def remember(*about):
        every.append(start(*about))
        return every[-1]

    monkeypatch.setattr(processes, "_start", remember)
    return every


def make(method, **params):
    return HEADS[method](n_clusters=4, random_state=0, device="cpu", **SMALL[method], **params)


@pytest.mark.parametrize("method", ["temi", "cpp"])
def test_two_processes_learn_what_one_does(blobs, method, tmp_path, started):
    shown, told = [], []

    def reporter(description, total, unit):
        shown.append([description, total, 0])

        def advance(n):
            shown[-1][2] += n

        return nullcontext(advance)

    alone = make(method).fit(blobs)
    shared = make(method)
    path = tmp_path / "checkpoint"
    with reporting(reporter):
        shared.fit(blobs, devices=2, callback=told.append, checkpoint=path)
    assert len(started) == 2
    assert all(process.popen.returncode is not None for process in started)
    assert list(tmp_path.iterdir()) == []
    epochs = alone.n_iter_
    assert [tuple(task) for task in shown if task[0].startswith("Training")] == [
        (f"Training {type(alone).__name__}", epochs, epochs)
    ]
    assert [info["epoch"] for info in told] == list(range(1, epochs + 1))
    np.testing.assert_array_equal(shared.labels_, alone.labels_)
    np.testing.assert_allclose(shared.predict_proba(blobs), alone.predict_proba(blobs), atol=2e-5)
    weights, expected = (head.network_.state_dict() for head in (shared, alone))
    torch.testing.assert_close(weights, expected, rtol=0, atol=2e-5)
    assert vars(shared).keys() == vars(alone).keys()
    for mine, theirs in zip(shared.history_, alone.history_, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    shared.save(tmp_path / "head")
    again = HEADS[method].load(tmp_path / "head").predict(blobs)
    np.testing.assert_array_equal(again, alone.labels_)


def test_a_killed_process_ends_the_training_with_a_sentence(blobs, started):
    def kill(info):
        os.kill(started[1].popen.pid, signal.SIGKILL)

    with pytest.raises(
        ImageherdError, match=r"Process 2 of the 2 that trained TEMI was ended by SIGKILL"
    ):
        make("temi").fit(blobs, devices=2, callback=kill)
    assert all(process.popen.returncode is not None for process in started)


def test_what_stops_the_caller_stops_all(blobs, tmp_path, started, monkeypatch):
    def interrupt(*about):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "_result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make("temi").fit(blobs, devices=2, checkpoint=tmp_path / "checkpoint")
    assert [process.popen.returncode for process in started] == [-signal.SIGKILL] * 2
    assert list(tmp_path.iterdir()) == []


def test_what_went_wrong_is_told_before_what_came_of_it():
    task = Task(make("temi"), Run(0, torch.device("cpu")), 2, 1, Path(), False)
    lost = processes._Heard(0, "failed", LostTouchError("Process 1 has lost touch"))
    heard = queue.SimpleQueue()
    heard.put(processes._Heard(1, "failed", LossNotFiniteError("The loss became nan")))
    found = processes._cause(task, lost, heard, [])
    assert isinstance(found, LossNotFiniteError)


def test_an_error_comes_over_as_it_was_or_as_what_it_said():
    class OfOneProcessOnlyError(ValueError):
        pass

    def raised(error):
        try:
            raise error
        except Exception as same:
            return worker._sendable(same)

    assert type(raised(LossNotFiniteError("nan"))) is LossNotFiniteError
    found = raised(OfOneProcessOnlyError("what it said"))
    assert type(found) is RuntimeError
    assert "OfOneProcessOnlyError: what it said" in str(found)


@pytest.mark.parametrize(
    ("method", "devices", "error", "message"),
    [
        ("tsp", 2, ValueError, "devices=2 are for TEMI and CPP; TSP trains on one"),
        ("temi", 0, ValueError, "devices == 0, must be >= 1"),
        ("temi", 1.5, TypeError, "devices must be an instance of"),
    ],
)
def test_what_cannot_be_is_refused(blobs, method, devices, error, message):
    with pytest.raises(error, match=message):
        HEADS[method](device="cpu").fit(blobs, devices=devices)


def test_more_devices_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(fabric, "usable_cores", lambda: 4)
    with pytest.raises(ImageherdError, match="devices=5 cannot be done on cpu; at most 4 proc"):
        processes.check_sharing(make("temi"), torch.device("cpu"), 5)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = torch.device("cuda")
    assert processes.check_sharing(make("temi"), cuda, 2)
    with pytest.raises(ImageherdError, match="devices=3 cannot be done on cuda; there are 2"):
        processes.check_sharing(make("temi"), cuda, 3)
    with pytest.raises(ImageherdError, match="taken from the first on"):
        processes.check_sharing(make("temi"), torch.device("cuda:1"), 2)


def test_without_fabric_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(ImageherdError, match=r'pip install "imageherd\[train\]"'):
        processes.check_sharing(make("temi"), torch.device("cpu"), 2)
