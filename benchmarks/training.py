"""Measure the epoch time of neural methods, as a ratio to plain PyTorch loops of their networks.

``python benchmarks/training.py`` trains every method twice, with its own loop and with the shortest
possible one: indexed tensors, the same network, loss and optimizer. The inputs are cached features
of random numbers. Sizes are published ones where they take a core less than a second per epoch, or
so small that the time of the loop matters. The epochs of the two alternate, and the shortest of
each are compared, on a CPU by the time of the processor on one thread, so that other load on the
machine hardly affects the ratio.

``--methods`` selects some, ``--table FILE`` writes the table to a file, and ``--device cuda``
measures wall time on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crossfit import Ragged, Views
from crossfit.neural import Items, grad_reverse, listening, triplet_loss
from crossfit.neural.pictures import SquareCut
from crossfit_acln.estimator import ACLN
from crossfit_alcca.estimator import ACMR
from crossfit_bssan.estimator import BSSAN
from crossfit_correlation.corr_ae import CorrAE
from crossfit_correlation.dcca import DCCA
from crossfit_correlation.multimodal_dbn import MultimodalDBN
from crossfit_cran.estimator import CRAN
from crossfit_heads.contrastive import ContrastiveHead
from crossfit_heads.scan import SCAN, Elements, stacked_attention
from crossfit_heads.vse_infinity import GPO, VSEInfinity
from crossfit_ranking.dan import DAN
from crossfit_ranking.dspe import DSPE
from crossfit_ranking.dual_path import DualPath
from crossfit_ranking.dvsa import DVSA, aligned
from crossfit_ranking.m_cnn import MCNN
from crossfit_ranking.m_rnn import MRNN
from crossfit_ranking.rrf_net import RRFNet
from crossfit_ranking.vse import VSEPP
from crossfit_ranking.wsabie import WSABIE
from crossfit_topicnet.estimator import SSVR
from crossfit_topicnet.network import stored_edge

Loss = Callable[[Tensor, float], Tensor]

# Parameters of every method.
COMMON: dict[str, Any] = {"amp": False, "random_state": 0, "verbose": 0}


class Plain:
    """The shortest training loop."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        n: int,
        batch_size: int,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        backward: bool = True,  # False if the loss sets the gradients
    ) -> None:
        self.module, self.optimizer, self.loss = module, optimizer, loss
        self.n, self.batch_size = n, batch_size
        self.schedule, self.backward = schedule, backward
        self.device = next(module.parameters()).device

    def epoch(self, progress: float) -> float:
        """Train for one epoch; return the sum of the batches' losses."""
        self.module.train()
        total = 0.0
        for rows in torch.randperm(self.n, device=self.device).split(self.batch_size):
            self.optimizer.zero_grad()
            loss = self.loss(rows, progress)
            if self.backward:
                loss.backward()
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
            total += loss.item()
        return total


@dataclass(frozen=True)
class Case:
    """A method with its training data, and the plain loop of its network.

    The work of an epoch is the same in all epochs of a phase; the phases have equal shares of them.
    """

    name: str
    setting: str
    method: Any
    arrays: tuple[Any, ...]
    plain: Plain
    phases: int = 1


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def classes(n: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(n) % n_classes)


def word_ids(n: int, n_ids: int) -> np.ndarray:
    """Return n sentences of 6 to 18 words, padded with 0, with ids up to n_ids - 1."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 19, n)
    ids = rng.integers(2, n_ids, (n, 18)) * (np.arange(18) < lengths[:, None])
    ids[0, 0] = n_ids - 1
    return ids


# ---- the methods ---------------------------------------------------------------------------------


def acln(device: str, width: int, batch_size: int) -> Case:
    n = 200
    words = np.random.default_rng(0).integers(2, 1000, (n, 12))
    arrays = normal(n, 36, 256), words, classes(n, 10)
    method = ACLN(width=width, batch_size=batch_size, **COMMON)
    module: Any = method._build_module({"image": 256, "text": 1000}, 10).to(device)
    regions, ids, y = (torch.from_numpy(array).to(device) for array in arrays)

    def loss(rows: Tensor, _: float) -> Tensor:
        g, z = module(Items(regions[rows]), "image")
        h, w = module(Items(ids[rows], ids[rows] != 0), "text")
        labels = F.cross_entropy(z, y[rows]) + F.cross_entropy(w, y[rows])
        return labels + (1 - F.cosine_similarity(g, h)).mean()

    optimizer = torch.optim.RMSprop(module.parameters(), lr=method.lr)
    plain = Plain(module, optimizer, loss, n, batch_size)
    return Case("acln", f"width {width}, batches of {batch_size}", method, arrays, plain)


def acmr(device: str, widths: tuple[int, int], n: int) -> Case:
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1), classes(n, 20)
    margin, batch_size = 5.0, 100
    method = ACMR(
        hidden={"image": 1000, "text": 200}, margin=margin, batch_size=batch_size, lr=1e-4,
        standardize=False, **COMMON,
    )  # fmt: skip
    X, Z, y = (torch.from_numpy(array).to(device) for array in arrays)

    def projector(n_inputs: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(n_inputs, hidden), nn.Tanh(), nn.Linear(hidden, 200), nn.Tanh()
        )

    first, second = projector(widths[0], 1000), projector(widths[1], 200)
    by_label = nn.Linear(200, 20)
    by_view = nn.Sequential(nn.Linear(200, 50), nn.Tanh(), nn.Linear(50, 2))
    module = nn.ModuleList([first, second, by_label, by_view]).to(device)
    weights = [w for part in (first, second) for w in part.parameters() if w.ndim == 2]

    def loss(rows: Tensor, progress: float) -> Tensor:
        a, t, own = first(X[rows]), second(Z[rows]), y[rows]
        squares = a.square().sum(dim=1)[:, None] + t.square().sum(dim=1)
        distances = ((squares - 2 * a @ t.T).clamp(min=0) + 1e-4).sqrt()
        same = own[:, None] == own
        near = (distances * same).sum() / same.sum()
        far = ((margin - distances).clamp(min=0) * ~same).sum() / (~same).sum()
        labels = F.cross_entropy(by_label(a), own) + F.cross_entropy(by_label(t), own)
        decay = torch.stack([w.square().sum() for w in weights]).sum()
        view = torch.arange(2, device=y.device).repeat_interleave(len(own))
        logits = by_view(grad_reverse(torch.cat([a, t]), progress))
        return 2 * (near + far) + labels + 1e-4 * decay + 2 * F.cross_entropy(logits, view)

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, betas=(0.5, 0.999))
    plain = Plain(module, optimizer, loss, n, batch_size)
    return Case("acmr", f"{widths[0]:,} and {widths[1]:,} inputs", method, arrays, plain)


def contrastive_head(device: str, widths: tuple[int, int], width: int, batch_size: int) -> Case:
    n = 4096
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    method = ContrastiveHead(
        width=width, batch_size=batch_size, init="random", standardize=False, dropout=0.0,
        schedule=None, validation_fraction=None, **COMMON,
    )  # fmt: skip
    X, Z = (torch.from_numpy(array).to(device) for array in arrays)
    first, second = (nn.Linear(size, width) for size in widths)
    module = nn.ModuleList([first, second]).to(device)
    logarithm = nn.Parameter(torch.tensor(1 / 0.07, device=device).log())

    def loss(rows: Tensor, _: float) -> Tensor:
        a, b = F.normalize(first(X[rows]), dim=1), F.normalize(second(Z[rows]), dim=1)
        logits = logarithm.exp() * (a @ b.T)
        own = torch.arange(len(rows), device=device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    optimizer = torch.optim.AdamW([*module.parameters(), logarithm], lr=1e-3)
    plain = Plain(module, optimizer, loss, n, batch_size)
    setting = f"{widths[0]:,} and {widths[1]:,} inputs, {width} outputs, batches of {batch_size:,}"
    return Case("contrastive-head", setting, method, arrays, plain)


def bssan_views(n: int, regions: int, width: int, object_width: int, word_width: int) -> Views:
    """Return n pairs: a map, ten objects, and twelve words."""
    image = {"map": normal(n, regions, width), "objects": normal(n, 10, object_width, seed=1)}
    return Views(image=image, text=normal(n, 12, word_width, seed=2))


def bssan(device: str, **widths: Any) -> Case:
    n, batch_size = 512, 128
    views = bssan_views(n, 16, 256, 256, 100)
    # The plain loop has one random sentence per image, and the features as they are.
    method = BSSAN(
        **widths, mining="random", bidirectional=False, n_components=None, standardize=False,
        dropout=0.0, optimizer="SGD", lr=1e-3, delta=1e-5, batch_size=batch_size, **COMMON,
    )  # fmt: skip
    image, text = views["image"], views["text"]
    method.n_regions_ = image["map"].shape[1]
    n_inputs = {name: image[name].shape[-1] for name in image.names}
    module: Any = method._build_module({"image": n_inputs, "text": text.shape[-1]}, None).to(device)
    map_, objects, words = (
        torch.tensor(np.asarray(part)).to(device) for part in (image["map"], image["objects"], text)
    )

    def loss(rows: Tensor, _: float) -> Tensor:
        b = len(rows)
        images = module.image({"map": Items(map_[rows]), "objects": Items(objects[rows])})
        texts = module.text(Items(words[rows]))
        own = torch.arange(b, device=device)
        other = (own + torch.randint(1, b, (b,), device=device)) % b
        scores = module(images.take(own[:, None]), texts.take(torch.stack([own, other], 1)))
        hinges = {
            name: (1 - part[..., 0] + part[..., 1]).clamp(min=0).mean()
            for name, part in scores.items()
        }
        return hinges["w2r"] + 0.6 * hinges["o2w"] + 1e-5 * module.squared_norm()

    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    plain = Plain(module, optimizer, loss, n, batch_size)
    return Case("bssan", f"LSTM of {method.lstm_width} units", method, (views,), plain)


def cran_data(n: int, width: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return images (n, width) and (n, 5, width), and texts."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    texts = ["".join(row) for row in np.random.default_rng(0).choice(letters, (n, 60))]
    image = {"global": normal(n, width), "regions": normal(n, 5, width, seed=1)}
    return image, np.array(texts, dtype=object)


def cran(device: str, batch_size: int, **widths: Any) -> Case:
    n = 400
    arrays = cran_data(n, 1280)
    method = CRAN(
        **widths, batch_size=batch_size, optimizer="RMSprop", lr=4e-4, margin=1.0, mining="random",
        bidirectional_local=False, standardize=False, dropout=0.0, **COMMON,
    )  # fmt: skip
    n_inputs = {"image": {k: part.shape[-1] for k, part in arrays[0].items()},
                "text": method.length}  # fmt: skip
    module: Any = method._build_module(n_inputs, None).to(device)
    image = {k: torch.from_numpy(part).to(device) for k, part in arrays[0].items()}
    ids = torch.from_numpy(method._characters(arrays[1])).to(device)

    def loss(rows: Tensor, _: float) -> Tensor:
        P = module.images({k: Items(part[rows]) for k, part in image.items()})
        scores = module.scores(P, module.texts(ids[rows]))
        own = torch.eye(len(rows), dtype=torch.bool, device=device)
        hinge = {"margin": 1.0, "mining": "random"}
        backward = sum(triplet_loss(S.T, own, ~own, **hinge) for S in scores.values())
        return backward + triplet_loss(scores["global"], own, ~own, **hinge)

    optimizer = torch.optim.RMSprop(module.parameters(), lr=method.lr)
    plain = Plain(module, optimizer, loss, n, batch_size)
    setting = f"LSTM of {method.lstm_width} units, batches of {batch_size}"
    return Case("cran", setting, method, arrays, plain)


def dual_path(device: str, n: int, channels: tuple[int, ...], width: int) -> Case:
    batch_size, n_ids, margin = 128, 1000, 0.2
    images, rng = normal(n, 1280), np.random.default_rng(0)
    lengths = rng.integers(6, 19, n)
    ids = rng.integers(2, n_ids, (n, 18)) * (np.arange(18) < lengths[:, None])
    ids[0, 0] = n_ids - 1
    views = Views(image=images, text=Ragged.from_list([row[row > 0] for row in ids]))
    method = DualPath(
        channels=channels, blocks=(1,) * len(channels), width=width, hidden=2 * width,
        standardize=False, dropout=0.0, shift=False, instance_epochs=0, margin=margin,
        batch_size=batch_size, **COMMON,
    )  # fmt: skip
    method.text_form_, method.pictures_, method.identities_ = "ids", False, np.arange(n)
    module: Any = method._build_module({"image": 1280, "text": n_ids}, None).to(device)
    X, T = (torch.from_numpy(part).to(device) for part in (images, ids))

    def loss(rows: Tensor, _: float) -> Tensor:
        a = module.encode(Items(X[rows]), "image")
        b = module.encode(Items(T[rows], T[rows] != 0), "text")
        classes = F.cross_entropy(module.classifier(a), rows)
        classes = classes + F.cross_entropy(module.classifier(b), rows)
        scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
        matched = scores.diagonal()
        wrong = ~torch.eye(len(rows), dtype=torch.bool, device=device)
        texts = (margin - matched[:, None] + scores).clamp(min=0) * wrong
        pictures = (margin - matched + scores).clamp(min=0) * wrong
        return classes + (texts.sum() + pictures.sum()) / len(rows)

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"stage two, convolutions of {' and '.join(map(str, channels))} units"
    return Case("dual-path", setting, method, (views,), plain)


def ssvr(device: str, images: np.ndarray, setting: str, **settings: Any) -> Case:
    n, batch_size = len(images), 128
    rng = np.random.default_rng(0)
    drawn = {name: rng.dirichlet(np.full(40, 0.1), n).astype(np.float32)
             for name in ("article", "caption")}  # fmt: skip
    method = SSVR(
        batch_size=batch_size, lr=1e-3, lr_step=200_000, standardize=False, **settings, **COMMON
    )
    held = images
    if images.ndim == 4:
        cut = SquareCut(stored_edge(method.image_size), method.image_size)
        held = np.stack([cut.cut(cut.whole(image), None) for image in images])
    method.raw_ = {"image": images.ndim == 4, "text": False}
    n_inputs = {"image": images.shape[-1], "text": {k: v.shape[1] for k, v in drawn.items()}}
    module: Any = method._build_module(n_inputs, None, **method._prefixed("module")).to(device)
    del method.raw_
    values = torch.from_numpy(held).to(device)
    topics = {name: torch.from_numpy(part).to(device) for name, part in drawn.items()}

    def loss(rows: Tensor, _: float) -> Tensor:
        logits = module(values[rows])
        parts = [
            F.binary_cross_entropy_with_logits(logits[name], part[rows], reduction="sum")
            for name, part in topics.items()
        ]
        return torch.stack(parts).sum() / len(rows)

    bias = [p for name, p in module.named_parameters() if name.endswith("bias")]
    rest = [p for name, p in module.named_parameters() if not name.endswith("bias")]
    groups = [{"params": bias, "lr": 2e-3, "weight_decay": 0.0}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 200_000)
    plain = Plain(module, optimizer, loss, n, batch_size, schedule)
    return Case("ssvr", setting, method, (images, drawn), plain)


def dcca(device: str, widths: tuple[int, int], hidden: int, width: int) -> Case:
    n, batch_size, ridge, decay = 2400, 800, 1e-3, 1e-5
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    method = DCCA(
        hidden=hidden, width=width, reg=ridge, weight_decay=decay, batch_size=batch_size,
        standardize=False, dropout=0.0, **COMMON,
    )  # fmt: skip
    X, Z = (torch.from_numpy(array).to(device) for array in arrays)
    first, second = (
        nn.Sequential(
            nn.Linear(n_inputs, hidden), nn.Sigmoid(), nn.BatchNorm1d(hidden, affine=False),
            nn.Linear(hidden, width, bias=False),
        )
        for n_inputs in widths
    )  # fmt: skip
    module = nn.ModuleList([first, second]).to(device)
    weights = [w for w in module.parameters() if w.ndim == 2]
    eye = ridge * torch.eye(width, dtype=torch.float64, device=device)

    def whitened(outputs: Tensor) -> Tensor:
        H = outputs.double()
        H = (H - H.mean(dim=0)) / (len(H) - 1) ** 0.5
        return torch.linalg.solve_triangular(torch.linalg.cholesky(H.T @ H + eye), H.T, upper=False)

    def loss(rows: Tensor, _: float) -> Tensor:
        T = whitened(first(X[rows])) @ whitened(second(Z[rows])).T
        squares = torch.stack([w.square().sum() for w in weights]).sum()
        return decay / 2 * squares - torch.linalg.svdvals(T).sum().float()

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"{widths[0]:,} and {widths[1]:,} inputs, {hidden:,} and {width} units"
    return Case("dcca", setting, method, arrays, plain)


def corr_ae(device: str, widths: tuple[int, int], width: int, n: int) -> Case:
    batch_size, alpha = 100, 0.8
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    method = CorrAE(
        width=width, alpha=alpha, activation="tanh", batch_size=batch_size, standardize=False,
        **COMMON,
    )  # fmt: skip
    values = [torch.from_numpy(array).to(device) for array in arrays]
    encoders = [nn.Sequential(nn.Linear(size, width), nn.Tanh()) for size in widths]
    decoders = [nn.Linear(width, size) for size in widths]
    module = nn.ModuleList([*encoders, *decoders]).to(device)

    def loss(rows: Tensor, _: float) -> Tensor:
        inputs = [part[rows] for part in values]
        codes = [encode(part) for encode, part in zip(encoders, inputs)]
        errors = [
            (part - decode(code)).square().sum(dim=1).mean()
            for decode, code, part in zip(decoders, codes, inputs)
        ]
        distance = (codes[0] - codes[1]).square().sum(dim=1).mean()
        return (1 - alpha) * (errors[0] + errors[1]) + alpha * distance

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    return Case("corr-ae", f"{widths[0]:,} and {widths[1]:,} inputs, codes of {width} units",
                method, arrays, plain)  # fmt: skip


def region_views(n: int, n_regions: int, width: int, words: int) -> Views:
    """Return n images of regions (n_regions, width) and texts of 12 word vectors."""
    return Views(image=normal(n, n_regions, width), text=normal(n, 12, words, seed=1))


def dan(device: str, width: int) -> Case:
    n, batch_size = 512, 128
    views = region_views(n, 16, 256, 100)
    method = DAN(width=width, standardize=False, batch_size=batch_size, **COMMON)
    method.text_form_ = "words"
    module: Any = method._build_module({"image": 256, "text": 100}, None).to(device)
    regions, words = (torch.tensor(views[name], device=device) for name in views.names)
    mask = torch.ones(batch_size, 12, dtype=torch.bool, device=device)

    def loss(rows: Tensor, _: float) -> Tensor:
        v = module.encode(Items(regions[rows]), "image")
        u = module.encode(Items(words[rows], mask[: len(rows)]), "text")
        return _all_hinges(v @ u.T, 0.2)

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    return Case("dan", f"width {width}, 16 regions and 12 words", method, (views,), plain)


def dvsa(device: str, hidden: int, width: int) -> Case:
    n, batch_size = 500, 100
    views = region_views(n, 20, 256, 100)
    method = DVSA(hidden=hidden, width=width, standardize=False, batch_size=batch_size, **COMMON)
    method.text_form_ = "words"
    module: Any = method._build_module({"image": 256, "text": 100}, None).to(device)
    regions, words = (torch.tensor(views[name], device=device) for name in views.names)
    mask = torch.ones(batch_size, 12, dtype=torch.bool, device=device)

    def loss(rows: Tensor, _: float) -> Tensor:
        v, _ = module.prepare(Items(regions[rows]), "image")
        s, said = module.prepare(Items(words[rows], mask[: len(rows)]), "text")
        return _all_hinges(aligned(v, None, s, said) / 12, 0.1)

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=3e-3), loss, n, batch_size)
    return Case("dvsa", f"width {width}, 20 regions and 12 words", method, (views,), plain)


def _all_hinges(scores: Tensor, margin: float) -> Tensor:
    """Return the mean hinges of both directions over all pairs but the diagonal."""
    own = scores.diagonal()
    wrong = ~torch.eye(len(own), dtype=torch.bool, device=scores.device)
    rows = ((margin - own[:, None] + scores).clamp(min=0) * wrong).sum()
    columns = ((margin - own[None] + scores).clamp(min=0) * wrong).sum()
    return (rows + columns) / wrong.sum()


def m_cnn(device: str, width: int, n: int) -> Case:
    batch_size, size, n_ids = 64, 16, 1000
    images, ids = normal(n, 1280), word_ids(n, n_ids)
    views = Views(image=images, text=Ragged.from_list([row[row > 0] for row in ids]))
    method = MCNN(
        maps=(width, width, width), image_width=width, hidden=width, standardize=False,
        mining="all", group_size=size, batch_size=batch_size, optimizer="Adam", lr=1e-3, **COMMON,
    )  # fmt: skip
    method.text_form_ = "ids"
    module: Any = method._build_module({"image": 1280, "text": n_ids}, None).to(device)
    X, T = (torch.from_numpy(part).to(device) for part in (images, ids))
    own = torch.eye(size, dtype=torch.bool, device=device)

    def loss(rows: Tensor, _: float) -> Tensor:
        P, Q = module.image(Items(X[rows])), module.text(Items(T[rows], T[rows] > 0))
        at = torch.arange(len(rows), device=device).view(-1, size)
        terms = []
        for name, level in module.levels.items():
            S = level(P[name][at], Q[name].take(at))
            matched = S.diagonal(dim1=1, dim2=2)[..., None]
            hinges = ((0.5 - matched + side).clamp(min=0) for side in (S, S.mT))
            terms += [h.masked_fill(own, 0).sum(dim=2).mean() / (size - 1) for h in hinges]
        return torch.stack(terms).sum()

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    return Case("m-cnn", f"four levels of {width} maps", method, (views,), plain)


def m_rnn(device: str, widths: tuple[int, int], width: int, n_ids: int, n: int) -> Case:
    batch_size, decay = 64, 1e-6
    images, ids = normal(n, 1280), word_ids(n, n_ids)
    views = Views(image=images, text=Ragged.from_list([row[row > 0] for row in ids]))
    method = MRNN(
        embedding_widths=widths, width=width, standardize=False, l2=decay, n_prior_images=0,
        batch_size=batch_size, lr=1e-3, **COMMON,
    )  # fmt: skip
    module: Any = method._build_module({"image": 1280, "text": n_ids}, None).to(device)
    X, T = (torch.from_numpy(part).to(device) for part in (images, ids))

    def loss(rows: Tensor, _: float) -> Tensor:
        P = module.image(Items(X[rows]))
        states, targets, mask = module.text(Items(T[rows], T[rows] > 0))
        row, place = mask.nonzero(as_tuple=True)
        logits = module.logits(states[row, place], P[row])
        return F.cross_entropy(logits, targets[row, place]) + decay * module.squared_norm()

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"{widths[1]} and {width} units, {n_ids:,} words"
    return Case("m-rnn", setting, method, (views,), plain)


def multimodal_dbn(
    device: str, widths: tuple[int, int], hidden: int, width: int, batch_size: int
) -> Case:
    n, lr, l2 = 2000, 1e-3, 1e-4
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    method = MultimodalDBN(
        hidden=(hidden,), width=width, units="gaussian", l2=l2, batch_size=batch_size,
        layer_lr={"image": lr, "text": lr, "joint": lr}, momentum=(0.9, 0.9), **COMMON,
    )  # fmt: skip
    X, Z = ((part - part.mean(0)) / part.std(0) for part in map(torch.from_numpy, arrays))
    X, Z = X.to(device), Z.to(device)

    class Machine(nn.Module):
        def __init__(self, n_visible: int, n_hidden: int) -> None:
            super().__init__()
            self.W = nn.Parameter(torch.randn(n_visible, n_hidden) * n_hidden**-0.5)
            self.b, self.c = (
                nn.Parameter(torch.zeros(n_visible)),
                nn.Parameter(torch.zeros(n_hidden)),
            )

        def contrast(self, v: Tensor, linear: bool) -> Tensor:
            """Set the gradients of CD-1; return the squared error of the reconstruction."""
            h = torch.sigmoid(v @ self.W + self.c)
            mean = torch.bernoulli(h) @ self.W.T + self.b
            v1 = mean if linear else torch.sigmoid(mean)
            h1 = torch.sigmoid(v1 @ self.W + self.c)
            self.W.grad = (v1.T @ h1 - v.T @ h) / len(v) + l2 * self.W
            self.b.grad, self.c.grad = (v1 - v).mean(dim=0), (h1 - h).mean(dim=0)
            return (v - v1).square().sum() / len(v)

    first, second = (Machine(size, hidden) for size in widths)
    joint = Machine(2 * hidden, width)
    module = nn.ModuleList([first, second, joint]).to(device)

    @torch.no_grad()
    def error(rows: Tensor, progress: float) -> Tensor:
        x, z = X[rows], Z[rows]
        if progress < 0.5:
            return first.contrast(x, True) + second.contrast(z, True)
        tops = torch.sigmoid(x @ first.W + first.c), torch.sigmoid(z @ second.W + second.c)
        return joint.contrast(torch.cat(tops, dim=1), False)

    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
    plain = Plain(module, optimizer, error, n, batch_size, backward=False)
    setting = f"{widths[0]:,} and {widths[1]:,} inputs, {hidden:,} and {width:,} units"
    return Case("multimodal-dbn", setting, method, arrays, plain, phases=2)


def vsepp(device: str, width: int, word_width: int, n: int) -> Case:
    batch_size, n_ids = 128, 1000
    images = normal(n, 1280)
    ids = word_ids(n, n_ids)
    views = Views(image=images, text=Ragged.from_list([row[row > 0] for row in ids]))
    method = VSEPP(
        width=width, word_width=word_width, dropout=0.0, word_dropout=0.0, standardize=False,
        sum_share=0.0, clip=None, lr_step=None, batch_size=batch_size, **COMMON,
    )  # fmt: skip
    X, T = (torch.from_numpy(part).to(device) for part in (images, ids))
    counts = torch.from_numpy((ids > 0).sum(axis=1))
    linear, embedding = nn.Linear(1280, width), nn.Embedding(n_ids, word_width)
    gru = nn.GRU(word_width, width, batch_first=True)
    module = nn.ModuleList([linear, embedding, gru]).to(device)

    def loss(rows: Tensor, _: float) -> Tensor:
        a = F.normalize(linear(X[rows]), dim=1)
        packed = pack_padded_sequence(
            embedding(T[rows]), counts[rows.cpu()], batch_first=True, enforce_sorted=False
        )
        b = F.normalize(gru(packed)[1][-1], dim=1)
        scores = a @ b.T
        own = torch.eye(len(rows), dtype=torch.bool, device=device)
        matched, wrong = scores.diagonal(), scores.masked_fill(own, -torch.inf)
        texts = (0.2 - matched + wrong.amax(dim=1)).clamp(min=0)
        images = (0.2 - matched + wrong.amax(dim=0)).clamp(min=0)
        return (texts + images).mean()

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"1,280 inputs, words of {word_width}, GRU of {width} units"
    return Case("vsepp", setting, method, (views,), plain)


def wsabie(device: str, widths: tuple[int, int], width: int, n: int) -> Case:
    batch_size, max_norm = 128, 1.0
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    method = WSABIE(
        width=width, max_norm=max_norm, dropout=0.0, standardize=False, lr_step=None,
        batch_size=batch_size, lr=1e-3, **COMMON,
    )  # fmt: skip
    X, Z = (torch.from_numpy(part).to(device) for part in arrays)
    first, second = (nn.Linear(size, width, bias=False) for size in widths)
    module = nn.ModuleList([first, second]).to(device)
    weights = torch.cat([torch.zeros(1), (1 / torch.arange(1.0, batch_size)).cumsum(0)]).to(device)

    def warp(scores: Tensor) -> Tensor:
        b = len(scores)
        own = torch.arange(b, device=device)[:, None]
        draws = (own + torch.randint(1, b, (b, b - 1), device=device)) % b
        hinges = 1 - scores.diagonal()[:, None] + scores.gather(1, draws)
        violating = hinges > 0
        at = violating.int().argmax(dim=1, keepdim=True)
        ranks = ((b - 1) // (at + 1)) * violating.gather(1, at)
        return (weights[ranks] * hinges.gather(1, at)).mean()

    def loss(rows: Tensor, _: float) -> Tensor:
        with torch.no_grad():  # after the last update
            for layer in (first, second):
                layer.weight.renorm_(2, 1, max_norm)
        scores = first(X[rows]) @ second(Z[rows]).T
        return warp(scores) + warp(scores.T)

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"{widths[0]:,} and {widths[1]:,} inputs, width {width}"
    return Case("wsabie", setting, method, arrays, plain)


def dspe(device: str, widths: tuple[int, int], hidden: int, width: int, n: int) -> Case:
    batch_size, margin, k = 500, 0.05, 10
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    # One caption per image, so that there is no structure, which the plain loop does not have.
    method = DSPE(
        hidden=(hidden,), width=width, margin=margin, k_negatives=k, structure=0.0, captions=1,
        standardize=False, lr=1e-3, lr_decay=1.0, batch_size=batch_size, **COMMON,
    )  # fmt: skip
    X, Z = (torch.from_numpy(array).to(device) for array in arrays)
    first, second = (
        nn.Sequential(
            nn.Linear(size, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(hidden, width),
        )
        for size in widths
    )  # fmt: skip
    module = nn.ModuleList([first, second]).to(device)

    def largest(d: Tensor) -> Tensor:
        hinges = (margin + d.diagonal()[:, None] - d).clamp(min=0)
        own = torch.eye(len(d), dtype=torch.bool, device=d.device)
        return hinges.masked_fill(own, 0.0).topk(k, dim=1)[0].mean()

    def loss(rows: Tensor, _: float) -> Tensor:
        x, z = F.normalize(first(X[rows]), dim=1), F.normalize(second(Z[rows]), dim=1)
        d = ((2 - 2 * x @ z.T).clamp(min=0) + 1e-8).sqrt()
        return largest(d) + 1.5 * largest(d.T)

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"{widths[0]:,} and {widths[1]:,} inputs, {hidden:,} and {width} units"
    return Case("dspe", setting, method, arrays, plain)


def rrf_net(device: str, widths: tuple[int, int], hidden: int, width: int, n: int) -> Case:
    batch_size, margin, k, steps = 500, 0.1, 50, 3
    weights = (1.0, 0.5, 2.0, 1.0)
    arrays = normal(n, widths[0]), normal(n, widths[1], seed=1)
    method = RRFNet(
        hidden=hidden, width=width, margin=margin, k_negatives=k, steps=steps, weights=weights,
        dropout=0.5, lr=1e-3, batch_size=batch_size, **COMMON,
    )  # fmt: skip
    X, Z = (torch.from_numpy(array).to(device) for array in arrays)

    class Branch(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.below = nn.Sequential(
                nn.BatchNorm1d(size), nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.5),
                nn.Linear(hidden, width), nn.BatchNorm1d(width), nn.ReLU(),
            )  # fmt: skip
            self.W = nn.Linear(width, width)
            self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(steps))
            self.fuse, self.norm = nn.Conv1d(steps + 1, 1, 1), nn.BatchNorm1d(1)
            self.above = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))

        def forward(self, x: Tensor) -> Tensor:
            states = [self.below(x)]
            for norm in self.norms:
                states.append(states[-1] + F.relu(norm(self.W(states[-1]))))
            fused = F.relu(self.norm(self.fuse(torch.stack(states, dim=1))))[:, 0]
            return F.normalize(self.above(fused), dim=1)

    first, second = Branch(widths[0]), Branch(widths[1])
    module = nn.ModuleList([first, second]).to(device)

    def loss(rows: Tensor, _: float) -> Tensor:
        x, z = first(X[rows]), second(Z[rows])
        s, own = x @ z.T, torch.eye(len(rows), dtype=torch.bool, device=x.device)
        base = margin - s.diagonal()[:, None]
        total = torch.zeros((), device=x.device)
        for across, within, one, two in ((s, z @ z.T, *weights[:2]), (s.T, x @ x.T, *weights[2:])):
            best, at = across.masked_fill(own, -2.0).topk(k, dim=1)
            hinges = (base + best).clamp(min=0)
            inside = (base + within.gather(1, at)).clamp(min=0) * (hinges > 0)
            total = total + one * hinges.sum() + two * inside.sum()
        return total / (len(rows) * k)

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=1e-3), loss, n, batch_size)
    setting = f"{widths[0]:,} and {widths[1]:,} inputs, {hidden:,} and {width} units"
    return Case("rrf-net", setting, method, arrays, plain)


def sets(n: int) -> Views:
    """Return n pairs of 36 regions and 12 words."""
    return Views(image=normal(n, 36, 256), text=normal(n, 12, 100, seed=1))


def hardest(scores: Tensor) -> Tensor:
    """Return the mean hinge on the hardest negatives of both directions."""
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    matched, wrong = scores.diagonal(), scores.masked_fill(own, -torch.inf)
    return sum((0.2 - matched + wrong.amax(dim=k)).clamp(min=0).mean() for k in (0, 1))


def words_in_both_directions(gru: nn.GRU, words: Tensor) -> Tensor:
    """Return the states of sequences, packed because those of texts differ in length."""
    lengths = torch.full((len(words),), words.shape[1])
    packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    return states.unflatten(2, (2, -1)).mean(dim=2)


def scan(device: str, attention: str, width: int) -> Case:
    n, batch_size = 512, 64
    views = sets(n)
    method = SCAN(
        attention=attention, width=width, standardize=False, dropout=0.0, sum_share=0.0,
        batch_size=batch_size, **COMMON,
    )  # fmt: skip
    regions, words = (torch.tensor(np.asarray(views[role])).to(device) for role in views.names)
    linear = nn.Linear(256, width)
    gru = nn.GRU(100, width, batch_first=True, bidirectional=True)
    module = nn.ModuleList([linear, gru]).to(device)

    def loss(rows: Tensor, _: float) -> Tensor:
        a = F.normalize(linear(regions[rows]), dim=2)
        b = F.normalize(words_in_both_directions(gru, words[rows]), dim=2)
        first, second = (a, b) if attention == "t2i" else (b, a)
        context, query = (
            Elements(part, torch.full((len(rows),), part.shape[1], device=device), gram)
            for part, gram in ((first, first @ first.mT), (second, None))
        )
        scale = 9.0 if attention == "t2i" else 4.0
        return hardest(stacked_attention(context, query, lambda_softmax=scale, leak=0.1))

    plain = Plain(module, torch.optim.Adam(module.parameters(), lr=5e-4), loss, n, batch_size)
    return Case("scan", f"{attention}, width {width}", method, (views,), plain)


def vse_infinity(device: str, width: int) -> Case:
    n, batch_size = 1024, 128
    views = sets(n)
    method = VSEInfinity(
        width=width, standardize=False, dropout=0.0, drop=0.0, sum_share=0.0,
        batch_size=batch_size, **COMMON,
    )  # fmt: skip
    regions, words = (torch.tensor(np.asarray(views[role])).to(device) for role in views.names)
    linear = nn.Linear(256, width)
    gru = nn.GRU(100, width, batch_first=True, bidirectional=True)
    position = nn.ModuleList(nn.GRU(32, 32, batch_first=True, bidirectional=True) for _ in "12")
    last = nn.ModuleList(nn.Linear(32, 1, bias=False) for _ in "12")
    module = nn.ModuleList([linear, gru, position, last]).to(device)
    codes = [GPO().encodings(length).to(device) for length in (36, 12)]

    def pool(values: Tensor, view: int) -> Tensor:
        states = words_in_both_directions(position[view], codes[view][None])
        weights = (last[view](states) / 0.1).softmax(dim=1)[0]
        ordered = values.mT.sort(dim=2, descending=True)[0]
        return F.normalize((ordered @ weights).squeeze(2), dim=1)

    def loss(rows: Tensor, _: float) -> Tensor:
        a = pool(linear(regions[rows]), 0)
        return hardest(a @ pool(words_in_both_directions(gru, words[rows]), 1).T)

    plain = Plain(module, torch.optim.AdamW(module.parameters(), lr=5e-4), loss, n, batch_size)
    return Case("vse-infinity", f"width {width}", method, (views,), plain)


def pixels(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 76, 76, 3), dtype=np.uint8)


# Every method at a size that takes long and at one that does not.
CASES: dict[str, list[Callable[[str], Case]]] = {
    "acln": [
        lambda on: acln(on, width=512, batch_size=20),
        lambda on: acln(on, width=512, batch_size=128),
        lambda on: acln(on, width=64, batch_size=20),
    ],
    "acmr": [
        lambda on: acmr(on, widths=(3220, 300), n=1000),
        lambda on: acmr(on, widths=(128, 300), n=4000),
    ],
    "bssan": [
        lambda on: bssan(on, lstm_width=128, w2r_mlp=(128, 64, 16), bilstm_width=64,
                         o2w_mlp=(64, 32, 8)),
        lambda on: bssan(on, lstm_width=24, w2r_mlp=(24, 12), bilstm_width=12, o2w_mlp=(12, 6)),
    ],
    "contrastive-head": [
        lambda on: contrastive_head(on, widths=(1280, 384), width=512, batch_size=1024),
        lambda on: contrastive_head(on, widths=(128, 10), width=64, batch_size=256),
    ],
    "corr-ae": [
        lambda on: corr_ae(on, widths=(1280, 384), width=1024, n=1000),
        lambda on: corr_ae(on, widths=(128, 10), width=64, n=8000),
    ],
    "cran": [
        lambda on: cran(on, batch_size=100, channels=(48, 64, 128), lstm_width=128, width=128,
                        length=84),
        lambda on: cran(on, batch_size=40, channels=(24, 24, 32), lstm_width=32, width=32,
                        length=66),
    ],
    "dan": [lambda on: dan(on, width=256), lambda on: dan(on, width=32)],
    "dcca": [
        lambda on: dcca(on, widths=(1280, 384), hidden=1024, width=50),
        lambda on: dcca(on, widths=(128, 10), hidden=64, width=10),
    ],
    "dspe": [
        lambda on: dspe(on, widths=(1280, 384), hidden=2048, width=512, n=1000),
        lambda on: dspe(on, widths=(128, 64), hidden=64, width=32, n=8000),
    ],
    "dual-path": [
        lambda on: dual_path(on, n=1024, channels=(256, 512), width=256),
        lambda on: dual_path(on, n=2048, channels=(32, 64), width=32),
    ],
    "dvsa": [lambda on: dvsa(on, hidden=128, width=256), lambda on: dvsa(on, hidden=32, width=32)],
    "m-cnn": [
        lambda on: m_cnn(on, width=64, n=256),
        lambda on: m_cnn(on, width=16, n=512),
    ],
    "m-rnn": [
        lambda on: m_rnn(on, widths=(128, 256), width=512, n_ids=1000, n=256),
        lambda on: m_rnn(on, widths=(16, 32), width=32, n_ids=200, n=1024),
    ],
    "multimodal-dbn": [
        lambda on: multimodal_dbn(on, (1280, 384), hidden=1024, width=1024, batch_size=128),
        lambda on: multimodal_dbn(on, (128, 10), hidden=64, width=64, batch_size=128),
    ],
    "rrf-net": [
        lambda on: rrf_net(on, widths=(1280, 384), hidden=2048, width=512, n=1000),
        lambda on: rrf_net(on, widths=(128, 64), hidden=64, width=32, n=8000),
    ],
    "scan": [
        lambda on: scan(on, "t2i", width=128),
        lambda on: scan(on, "i2t", width=128),
    ],
    "ssvr": [
        lambda on: ssvr(on, normal(256, 1280), "vectors, fc6 and fc7 of 4,096",
                        hidden=(4096, 4096)),
        lambda on: ssvr(on, normal(4096, 1280), "vectors, fc6 of 512", hidden=(512,)),
        lambda on: ssvr(on, normal(8192, 1280), "vectors, no hidden layer", hidden=()),
        lambda on: ssvr(on, pixels(256), "pictures of 67 × 67, 32 channels", hidden=(64,),
                        image_size=67, init="caffe", module__channels=(32,) * 5),
    ],
    "vse-infinity": [
        lambda on: vse_infinity(on, width=128),
    ],
    "vsepp": [
        lambda on: vsepp(on, width=256, word_width=128, n=512),
        lambda on: vsepp(on, width=32, word_width=32, n=2048),
    ],
    "wsabie": [
        lambda on: wsabie(on, widths=(4096, 1000), width=256, n=1024),
        lambda on: wsabie(on, widths=(1280, 384), width=128, n=2048),
    ],
}  # fmt: skip


# ---- the measurement -----------------------------------------------------------------------------


def shortest(case: Case, n_epochs: int, device: str) -> tuple[float, float]:
    """Return the seconds of the shortest epoch of the method, and of the plain loop.

    With several phases, these are means over the phases.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    ours: list[float] = []
    theirs: list[float] = []
    begun = 0.0

    def take_turns(estimator: Any, done: int, record: Any) -> None:
        nonlocal begun
        ours.append(clock() - begun)
        with torch.random.fork_rng(devices=[]):
            begun = clock()
            case.plain.epoch((done - 1) / n_epochs)
            theirs.append(clock() - begun)
        begun = clock()

    case.method.set_params(max_epochs=n_epochs, device=device)
    with listening(take_turns):
        case.method.fit(*case.arrays)
    ours[0] = np.inf  # includes the preparations
    parts = (np.array_split(times, case.phases) for times in (ours, theirs))
    first, second = (float(np.mean([part.min() for part in each])) for each in parts)
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--methods", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--table", type=Path, help="file for the table, printed in any case")
    given = parser.parse_args()
    torch.set_num_threads(1)

    lines = [
        "| method | setting | epoch, ms | plain loop, ms | ratio |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for name in given.methods:
        for make in CASES[name]:
            torch.manual_seed(0)
            case = make(given.device)
            ours, theirs = shortest(case, given.epochs, given.device)
            lines.append(
                f"| `{case.name}` | {case.setting} | {1e3 * ours:.0f} | {1e3 * theirs:.0f} | "
                f"{ours / theirs:.2f} |"
            )
            print(lines[-1], flush=True)
    if given.table:
        given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
