"""Many small networks of one shape, trained side by side as one batched operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.heads.loop import generator

# Bytes that the activations of one chunk of heads may take. On a CPU small tensors are fast: they
# stay near the cache and are handed out again without the system clearing their pages.
_CHUNK_BYTES = {"cpu": 48 * 2**20, "cuda": 2 * 2**30}


class HeadStack(nn.Module):
    """H independent heads: Linear, GELU, Linear, L2 normalisation, Linear of unit rows.

    The last layer has no bias and its weight is normalised: row c is ``gain_c · v_c / ‖v_c‖``,
    gain trainable and 1 at the start, so that an output is a scaled cosine. The weights of the
    first two layers start truncated-normal (std 0.02) and their biases at 0; v starts as PyTorch's
    Linear does, uniform within ±1/√bottleneck. Source: Adaloglou et al. 2023, sec. 3.2; the
    details from the authors' program.

    Parameters
    ----------
    n_inputs : int
        d, the columns of x.
    n_clusters : int
        K, the outputs of each head.
    n_heads : int, default=1
        H.
    first_head : int, default=0
        Number of the first head here. Head i draws its weights from a generator of its own, so
        it starts the same whatever stack it is in.
    seed : int, default=0
        Seed of all heads.
    hidden, bottleneck : int, default=512 and 256
        Widths of the two inner layers.

    Notes
    -----
    A forward pass of b rows costs ``2 H b (d·hidden + hidden·bottleneck + bottleneck·K)``
    operations.
    """

    def __init__(
        self,
        n_inputs: int,
        n_clusters: int,
        n_heads: int = 1,
        *,
        first_head: int = 0,
        seed: int = 0,
        hidden: int = 512,
        bottleneck: int = 256,
    ) -> None:
        super().__init__()
        self.hidden_weight = nn.Parameter(torch.empty(n_heads, hidden, n_inputs))
        self.hidden_bias = nn.Parameter(torch.zeros(n_heads, 1, hidden))
        self.bottleneck_weight = nn.Parameter(torch.empty(n_heads, bottleneck, hidden))
        self.bottleneck_bias = nn.Parameter(torch.zeros(n_heads, 1, bottleneck))
        self.direction = nn.Parameter(torch.empty(n_heads, n_clusters, bottleneck))
        self.gain = nn.Parameter(torch.ones(n_heads, n_clusters, 1))
        bound = bottleneck**-0.5
        for i in range(n_heads):
            draws = generator(seed, stream=first_head + i)
            nn.init.trunc_normal_(self.hidden_weight[i], std=0.02, generator=draws)
            nn.init.trunc_normal_(self.bottleneck_weight[i], std=0.02, generator=draws)
            nn.init.uniform_(self.direction[i], -bound, bound, generator=draws)

    @property
    def n_heads(self) -> int:
        """H."""
        return len(self.gain)

    def bottleneck(self, x: Tensor) -> Tensor:
        """Map rows (b, d), the same for all heads, to unit vectors (H, b, bottleneck)."""
        h = F.gelu(stacked_linear(x[None], self.hidden_weight, self.hidden_bias))
        z = stacked_linear(h, self.bottleneck_weight, self.bottleneck_bias)
        return F.normalize(z, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (b, d) to scaled cosines (H, b, K)."""
        last = F.normalize(self.direction, dim=2) * self.gain
        return torch.bmm(self.bottleneck(x), last.transpose(1, 2))

    def begin_with(self, start: HeadStack) -> None:
        """Give the first head the weights of the first of another stack."""
        with torch.no_grad():
            for mine, other in zip(self.parameters(), start.parameters(), strict=True):
                mine[:1] = other[:1]

    def head(self, i: int) -> HeadStack:
        """Return a copy of head i, as a stack of one."""
        _, hidden, n_inputs = self.hidden_weight.shape
        _, n_clusters, bottleneck = self.direction.shape
        one = HeadStack(n_inputs, n_clusters, hidden=hidden, bottleneck=bottleneck)
        one.load_state_dict({name: value[i : i + 1] for name, value in self.state_dict().items()})
        return one


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply H linear layers at once, ``y_h = x_h W_hᵀ + b_h``.

    Parameters
    ----------
    x : Tensor of shape (H, b, in) or (1, b, in)
        Rows of each layer, or the same rows for all.
    weight : Tensor of shape (H, out, in)
        W.
    bias : Tensor of shape (H, 1, out)
        b.

    Returns
    -------
    Tensor of shape (H, b, out)
    """
    if onednn_helps(x):
        rows = [part.contiguous().to_mkldnn() for part in x.unbind()] * (len(weight) // len(x))
        # Taken apart at once: a gradient through weight[h] would be as large as all of them.
        layers = zip(rows, weight.unbind(), bias.unbind(), strict=True)
        y = [F.linear(own, w, b[0]).to_dense() for own, w, b in layers]
        return y[0][None] if len(y) == 1 else torch.stack(y)
    return torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight.transpose(1, 2))


def heads_per_chunk(n_rows: int, n_clusters: int, device: str) -> int:
    """Heads whose activations for `n_rows` rows fit the memory set aside on a kind of device."""
    # Each inner layer keeps its input, output and gradient; the outputs pass through some ten
    # steps from cosines to loss.
    one_head = 4 * n_rows * (3 * 512 + 4 * 256 + 10 * n_clusters)
    return max(1, _CHUNK_BYTES.get(device, _CHUNK_BYTES["cuda"]) // one_head)


def times_transposed(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``a bᵀ + bias`` through oneDNN instead of PyTorch's BLAS.

    The arithmetic is the same float32. PyTorch multiplies float32 matrices with MKL, which on an
    AMD processor leaves AVX-512 alone; oneDNN, in the same PyTorch, uses it: twice as fast there.
    A tensor in oneDNN's own layout is what sends the product, and its gradients, to it.
    """
    return F.linear(a.contiguous().to_mkldnn(), b, bias).to_dense()


def onednn_helps(x: Tensor) -> bool:
    """Whether `times_transposed` is the faster product: float32 on a CPU that has oneDNN."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    return plain and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
