import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imageherd.errors import ImageherdError
from imageherd.heads.loop import (
    LossNotFiniteError,
    Run,
    generator,
    load_checkpoint,
    plan,
    save_checkpoint,
    train,
    warm_up,
)
from imageherd.progress import reporting

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("n", "batch_size", "epochs", "min_steps", "expected"),
    [
        (10_000, 256, 100, 1000, (256, 39, 100)),
        (400, 512, 100, 1000, (100, 4, 250)),
        (200, 256, 5, 0, (50, 4, 5)),
        (3, 256, 2, 0, (1, 3, 2)),
    ],
)
def test_plan(n, batch_size, epochs, min_steps, expected):
    found = plan(n, batch_size=batch_size, epochs=epochs, min_steps=min_steps)
    assert (found.batch_size, found.steps, found.epochs) == expected
    assert found.epochs * found.steps >= min_steps


def regression(seed=0):
    """A model that learns y = x·w, with dropout-like noise so that a generator matters."""
    X = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    y = X @ torch.tensor([1.0, -2.0, 0.5])
    model = nn.Linear(3, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    noise = generator(seed, stream=3)
    seen = []

    def step(rows, epoch):
        seen.append(rows.clone())
        x = X[rows] + 0.1 * torch.randn(len(rows), 3, generator=noise)
        loss = (model(x).squeeze(1) - y[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, model, optimizer, {"model": model, "noise": noise}, seen


def run_it(run, epochs=8, **kwargs):
    step, model, optimizer, state, seen = regression(run.seed)
    length = plan(40, batch_size=10, epochs=epochs)
    history = train(step, length, run, state=state, optimizer=optimizer, **kwargs)
    return history, model, seen


def test_every_epoch_sees_every_row_once_in_a_new_order():
    _, _, seen = run_it(Run(0, CPU), epochs=2)
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert first.sort().values.tolist() == list(range(40))
    assert second.sort().values.tolist() == list(range(40))
    assert not torch.equal(first, second)


def test_loss_falls_and_history_says_so():
    history, _, _ = run_it(Run(0, CPU), epochs=30)
    assert [h["epoch"] for h in history] == list(range(1, 31))
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]


def test_callback_sees_each_epoch_and_may_stop():
    seen = []

    def callback(info):
        seen.append(info)
        return info["epoch"] == 3

    history, _, _ = run_it(Run(0, CPU, callback), report=lambda: {"mine": 7.0})
    assert len(history) == 3
    assert set(seen[0]) == {"epoch", "epochs", "loss", "seconds", "mine"}


def test_schedule_sets_each_steps_rate():
    rates = []
    step, _, optimizer, state, _ = regression()

    def spy(rows, epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(rows, epoch)

    length = plan(40, batch_size=10, epochs=3)
    train(spy, length, Run(0, CPU), state=state, optimizer=optimizer, schedule=warm_up(2))
    expected = [0.05 * min(1.0, (i + 1) / 8) for i in range(12)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_resumed_run_ends_with_the_same_bytes(tmp_path, stop):
    path = tmp_path / "checkpoint"
    identity = {"seed": 5, "x": [1, 2]}
    whole, model, _ = run_it(Run(5, CPU), schedule=warm_up(6))

    def interrupt(info):
        if info["epoch"] == stop + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_it(Run(5, CPU, interrupt, path, identity), schedule=warm_up(6), checkpoint_seconds=0)
    counted = []
    run = Run(5, CPU, lambda info: counted.append(info["epoch"]), path, identity)
    history, again, _ = run_it(run, schedule=warm_up(6))
    assert counted[0] == stop + 1
    assert history == whole
    assert torch.equal(model.weight, again.weight)
    assert torch.equal(model.bias, again.bias)
    assert not path.exists()


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    tensor = torch.arange(3.0)
    save_checkpoint(path, {"t": tensor}, [], {"seed": 1})
    with pytest.raises(ImageherdError, match="other parameters or other data"):
        load_checkpoint(path, {"t": tensor}, {"seed": 2})


@pytest.mark.parametrize("damage", ["garbage", "cut", "foreign"])
def test_damaged_checkpoint_is_a_clear_error(tmp_path, damage):
    path = tmp_path / "checkpoint"
    tensor = torch.arange(3.0)
    save_checkpoint(path, {"t": tensor}, [], {})
    if damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        save_file({"t": tensor}, path)
    with pytest.raises(ImageherdError, match=r"Delete .* to start anew"):
        load_checkpoint(path, {"t": tensor}, {})


def test_loss_that_is_not_finite_stops_with_advice():
    def step(rows, epoch):
        return torch.tensor([1.0, math.nan if epoch == 1 else 1.0])

    with pytest.raises(LossNotFiniteError, match="nan in epoch 2 of 4; lower lr"):
        train(step, plan(40, batch_size=10, epochs=4), Run(0, CPU), state={})


def test_progress_counts_epochs():
    from contextlib import contextmanager

    told = []

    @contextmanager
    def reporter(description, total, unit):
        told.append((description, total, unit))
        yield told.append

    with reporting(reporter):
        run_it(Run(0, CPU), epochs=2, description="Training X")
    assert told[0] == ("Training X", 2, "epochs")
    assert sum(told[1:]) == 2


def test_streams_of_one_seed_differ_and_repeat():
    draws = [torch.rand(4, generator=generator(s, stream=k)) for s, k in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], torch.rand(4, generator=generator(0, stream=1)))
