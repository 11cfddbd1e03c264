"""TEMI's joint training: the network goes on learning together with the head trained on it.

Source: Adaloglou et al. 2023 (see `imageherd.heads.temi`), section 4.3, which says that it helps
where the network was pretrained on other images (67.1 to 70.9 % on CIFAR-100), and no more. How is
ours: the head's own loss for one head, on pairs of an image and one of the neighbors it had before.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imageherd.heads.loop import Run, generator, plan, train
from imageherd.heads.temi import TEMI
from imageherd.heads.temi_losses import pair_weights, pmi_losses, update_prior
from imageherd.heads.usage import Usage
from imageherd.pretraining.composition import weak_views
from imageherd.pretraining.data import Pixels, normalize
from imageherd.pretraining.networks import Network

EPOCHS, BATCH_SIZE, RATE = 10, 128, 1e-4
PRIOR_MOMENTUM = 0.9


class WithHead(nn.Module):
    """A network, the scaling of its features and a head on them: images to logits."""

    network: Network

    def __init__(self, network: Network, head: TEMI) -> None:
        super().__init__()
        self.network = network
        self.scaler = copy.deepcopy(head.scaler_)
        self.head = copy.deepcopy(head.network_).requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, K) of normalised images (b, 3, s, s)."""
        logits: Tensor = self.head(self.scaler(self.network(images)))
        return logits


def train_jointly(
    pixels: Pixels,
    network: Network,
    head: TEMI,
    neighbors: Tensor,
    run: Run,
    *,
    epochs: int = EPOCHS,
    flip: bool = True,
) -> tuple[Network, TEMI]:
    """Train a network and the TEMI head on its features together.

    Student and teacher both start as they are; a pair is an image and a neighbor drawn, each moved
    by up to 4 pixels and mirrored or not. The loss is eq. 8 with the pair's own weight (eq. 9), the
    optimiser AdamW with weight decay 1e-4 as the head's. The teacher is the result.

    Parameters
    ----------
    pixels : Pixels
        n images.
    network : Network
        Whose features the head was trained on.
    head : TEMI
        Fitted.
    neighbors : Tensor of shape (n, k), int64
        Rows of each image's neighbors by the features so far.
    run : Run
        Seed, device, checkpoint.
    epochs : int, default=10
        Passes over the images, in batches of 128 (at most n / 4).
    flip : bool, default=True
        Whether an image and its mirror image are of a kind.

    Returns
    -------
    network : Network
        The teacher's, on the CPU.
    head : TEMI
        A copy with the teacher's weights, its history carried on.

    Raises
    ------
    LossNotFiniteError
        If training diverges.

    Notes
    -----
    An image costs two forward and backward passes of the student and two of the teacher's forward.
    """
    length = plan(len(pixels), batch_size=BATCH_SIZE, epochs=epochs)
    student = WithHead(copy.deepcopy(network), head).to(run.device).train()
    student.network.requires_grad_(True)
    teacher = copy.deepcopy(student).requires_grad_(False)
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-4)
    momentum = min(max(1 - 80 / (length.epochs * length.steps), 0.9), 0.996)
    move_teacher = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
    prior = torch.full((1, head.n_clusters), 1 / head.n_clusters, device=run.device)
    usage = Usage(head.n_clusters, run.device)
    draws = generator(run.seed, stream=1)

    def log_q(model: nn.Module, images: Tensor) -> Tensor:
        return F.log_softmax(model(images), dim=1)[None]

    def step(rows: Tensor, epoch: int) -> Tensor:
        rows = rows.cpu()
        choice = torch.randint(neighbors.shape[1], rows.shape, generator=draws)
        pairs = pixels.batch(torch.cat([rows, neighbors[rows, choice]]), run.device)
        images = normalize(weak_views(pairs, draws, flip=flip), pixels)
        with torch.no_grad():
            log_qt = log_q(teacher, images)
            q_t = log_qt.exp()
            prior.copy_(update_prior(prior, q_t, PRIOR_MOMENTUM))
            weight = pair_weights(*q_t.chunk(2, dim=1))
            usage.add(q_t)
        loss = pmi_losses(log_q(student, images), log_qt, prior, weight, head.beta, head.balance)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        move_teacher(list(teacher.parameters()), list(student.parameters()), 0)
        return loss.detach()

    history = train(
        step,
        length,
        run,
        state={"student": student, "teacher": teacher, "prior": prior, "draws": draws},
        optimizer=optimizer,
        report=usage.report,
        description="Training TEMI jointly",
    )
    teacher.cpu().eval()
    return teacher.network, _with(head, teacher.head, history)


def _with(head: TEMI, trained: nn.Module, history: list[dict[str, Any]]) -> TEMI:
    found = copy.copy(head)
    found.network_ = trained
    before = head.n_iter_
    found.history_ = [*head.history_, *({**e, "epoch": before + e["epoch"]} for e in history)]
    found.n_iter_ = len(found.history_)
    return found
