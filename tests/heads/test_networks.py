import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from imageherd.heads.networks import HeadStack, heads_per_chunk, stacked_linear


class PlainHead(nn.Module):
    """One head the usual way, with the weights of head i of a stack."""

    def __init__(self, stack, i):
        super().__init__()
        d, hidden = stack.hidden_weight.shape[2], stack.hidden_weight.shape[1]
        bottleneck, K = stack.bottleneck_weight.shape[1], stack.direction.shape[1]
        self.first, self.second = nn.Linear(d, hidden), nn.Linear(hidden, bottleneck)
        last = nn.Linear(bottleneck, K, bias=False)
        self.last = nn.utils.parametrizations.weight_norm(last)
        weights = self.last.parametrizations.weight
        with torch.no_grad():
            self.first.weight.copy_(stack.hidden_weight[i])
            self.first.bias.copy_(stack.hidden_bias[i, 0])
            self.second.weight.copy_(stack.bottleneck_weight[i])
            self.second.bias.copy_(stack.bottleneck_bias[i, 0])
            weights.original0.copy_(stack.gain[i])
            weights.original1.copy_(stack.direction[i])

    def forward(self, x):
        return self.last(F.normalize(self.second(F.gelu(self.first(x))), dim=1))


def parameters_apart(stack, heads):
    """Largest difference between the stack's parameters and the plain heads'."""
    apart = 0.0
    for i, head in enumerate(heads):
        weights = head.last.parametrizations.weight
        pairs = [
            (stack.hidden_weight[i], head.first.weight),
            (stack.hidden_bias[i, 0], head.first.bias),
            (stack.bottleneck_weight[i], head.second.weight),
            (stack.bottleneck_bias[i, 0], head.second.bias),
            (stack.gain[i], weights.original0),
            (stack.direction[i], weights.original1),
        ]
        apart = max(apart, *((a - b).abs().max().item() for a, b in pairs))
    return apart


@pytest.fixture
def stack():
    stack = HeadStack(20, 4, 3, seed=1, hidden=32, bottleneck=16)
    with torch.no_grad():  # the starting values 0 and 1 would hide a mix-up
        for p in (stack.hidden_bias, stack.bottleneck_bias, stack.gain):
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    return stack


def test_forward_is_that_of_plain_heads(stack):
    x = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    for i in range(3):
        torch.testing.assert_close(stack(x)[i], PlainHead(stack, i)(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 20])
def test_trains_like_plain_heads(stack, steps):
    draws = torch.Generator().manual_seed(0)
    heads = [PlainHead(stack, i) for i in range(3)]
    ours = torch.optim.AdamW(stack.parameters(), lr=1e-3, fused=True)
    theirs = [torch.optim.AdamW(head.parameters(), lr=1e-3) for head in heads]
    start = stack.hidden_weight.detach().clone()
    for _ in range(steps):
        x = torch.randn(50, 20, generator=draws)
        target = torch.randint(4, (50,), generator=draws)
        logits = stack(x) / 0.1
        loss = sum(F.cross_entropy(logits[i], target) for i in range(3))
        ours.zero_grad()
        loss.backward()
        ours.step()
        for head, optimizer in zip(heads, theirs, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(head(x) / 0.1, target).backward()
            optimizer.step()
    assert (stack.hidden_weight - start).abs().max() > 5e-4 * steps**0.5
    assert parameters_apart(stack, heads) < 1e-5


@pytest.mark.parametrize("shared", [True, False])
def test_stacked_linear_on_the_cpu_is_the_textbook_product(shared):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1 if shared else 3, 70, 33, generator=draws, requires_grad=not shared)
    weight = torch.randn(3, 21, 33, generator=draws, requires_grad=True)
    bias = torch.randn(3, 1, 21, generator=draws, requires_grad=True)
    inputs = [weight, bias] if shared else [weight, bias, x]
    exact = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    y = stacked_linear(x, weight, bias)
    want = exact[0] @ exact[1].transpose(1, 2) + exact[2]
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad((y**3).sum(), inputs)
    order = [exact[1], exact[2]] if shared else [exact[1], exact[2], exact[0]]
    for a, b in zip(got, torch.autograd.grad((want**3).sum(), order), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-2)


def test_double_precision_passes_gradcheck():
    stack = HeadStack(5, 3, 2, hidden=6, bottleneck=4).double()
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = [name for name, _ in stack.named_parameters()]

    def outputs(*values):
        return torch.func.functional_call(stack, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(outputs, tuple(stack.parameters()))


def test_a_head_starts_the_same_in_any_stack():
    many = HeadStack(20, 4, 5, seed=3)
    few = HeadStack(20, 4, 2, first_head=2, seed=3)
    other = HeadStack(20, 4, 5, seed=4)
    for name, values in few.state_dict().items():
        assert torch.equal(many.state_dict()[name][2:4], values)
    assert not torch.equal(many.hidden_weight[2], many.hidden_weight[3])
    assert not torch.equal(many.hidden_weight, other.hidden_weight)


def test_the_start_has_the_stated_spread():
    stack = HeadStack(300, 10, 2, seed=0)
    assert abs(stack.hidden_weight.std().item() - 0.02) < 5e-4
    assert stack.hidden_bias.abs().max() == 0
    assert torch.equal(stack.gain, torch.ones(2, 10, 1))
    assert stack.direction.abs().max() <= 1 / 16


def test_head_is_a_copy(stack):
    x = torch.randn(9, 20, generator=torch.Generator().manual_seed(0))
    one = stack.head(1)
    torch.testing.assert_close(one(x)[0], stack(x)[1])
    torch.testing.assert_close(one.bottleneck(x).norm(dim=2), torch.ones(1, 9))
    with torch.no_grad():
        one.gain.zero_()
    assert stack.gain.abs().min() > 0


def test_chunk_size_follows_the_memory():
    assert heads_per_chunk(1024, 10, "cpu") == 4
    assert heads_per_chunk(1024, 10, "cuda") > 50
    assert heads_per_chunk(1024, 25_000, "cpu") == 1
    assert 1 <= heads_per_chunk(1024, 25_000, "cuda") < 5
