"""A denoising autoencoder as the start of a trunk, for features with no pretrained network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.heads.loop import Run, generator, plan, train
from imageherd.heads.trunk import linear, linear_layers

_STREAM = 101


def mask(Z: Tensor, rate: float, draws: torch.Generator) -> Tensor:
    """Set each entry of Z (b, d) to zero with probability `rate`, and divide the rest by 1 - rate.

    The masking noise of denoising autoencoders (Vincent et al. 2010), kept the same in the mean
    like dropout. Scaled features are centred or sparse, so a zero is what "not known" looks like.
    """
    if rate == 0:
        return Z
    kept = torch.rand(Z.shape, generator=draws).to(Z.device) >= rate
    return Z * kept / (1 - rate)


def decoder_of(trunk: nn.Sequential, draws: torch.Generator) -> nn.Sequential:
    """Return the mirror image of a trunk of Linear and ReLU: widths in reverse, last layer linear.

    A trunk d-500-500-2000 gets 2000-500-500-d, with ReLU between the layers. Weights start as He
    et al. (2015), drawn from `draws`; biases at 0.
    """
    layers: list[nn.Module] = []
    for layer in reversed(linear_layers(trunk)):
        back = linear(layer.out_features, layer.in_features)
        nn.init.kaiming_normal_(back.weight, nonlinearity="relu", generator=draws)
        nn.init.zeros_(back.bias)
        layers += [back, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def pretrain(
    trunk: nn.Sequential,
    Z: Tensor,
    run: Run,
    *,
    noise: float,
    epochs: int,
    min_steps: int,
    batch_size: int,
    lr: float = 1e-3,
) -> list[dict[str, Any]]:
    """Train a trunk in place, with a decoder, to restore rows from masked ones.

    All layers at once, on the mean squared error, with Adam; the decoder is thrown away. (Xie et
    al. 2016 and those after them first train layer by layer, which today's initialisation made
    needless.) Interrupted, it is taken up from the run's checkpoint with ".pretraining" at the
    end of its name.

    Parameters
    ----------
    trunk : nn.Sequential
        Linear and ReLU layers, on the run's device.
    Z : Tensor of shape (n, d)
        Scaled features, on the run's device.
    run : Run
        Seed, device and checkpoint. Its callback is not called: it counts the epochs of
        clustering.
    noise : float
        Share of the entries masked, in [0, 1).
    epochs, min_steps, batch_size : int
        See `imageherd.heads.loop.plan`.
    lr : float, default=1e-3
        Of Adam.

    Returns
    -------
    list of dict
        epoch and loss, by epoch.

    Notes
    -----
    Twice the trunk's time and memory: 12 b operations a weight for a step of b rows.
    """
    draws = generator(run.seed, stream=_STREAM)
    decoder = decoder_of(trunk, draws).to(run.device)
    parts = nn.ModuleList([trunk, decoder])
    optimizer = torch.optim.Adam(parts.parameters(), lr=lr)

    def step(rows: Tensor, epoch: int) -> Tensor:
        x = Z[rows]
        loss = F.mse_loss(decoder(trunk(mask(x, noise, draws))), x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    path = run.checkpoint
    own = path.with_name(path.name + ".pretraining") if path else None
    return train(
        step,
        plan(len(Z), batch_size=batch_size, epochs=epochs, min_steps=min_steps),
        replace(run, callback=None, checkpoint=own),
        state={"parts": parts, "draws": draws},
        optimizer=optimizer,
        description="Training the autoencoder",
        advice="lower lr",
    )
