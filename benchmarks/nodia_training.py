"""What benchmarks/nodia_gpu.py trains: networks, candidates in memory, the training itself.

Candidates are simulated on all cores; raw stamps and the planes of each network stay on the device,
and a step of the training is replayed as one CUDA graph where there is a GPU.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from rb.models.modern.network import StampNetwork
from rb.stamps.augment import DIHEDRAL, random_elements, turn_each, turned
from rb.training.recipe import averaging

ROOT = Path(__file__).resolve().parent.parent
KINDS = yaml.safe_load((ROOT / "conf/data/kinds.yaml").read_text())
CUT, ROOM = 51, 15
"""Pixels of a stamp, and how far from its middle a candidate may be cut."""
SIDE = [
    "psf",
    *(
        f"{quantity}_{image}"
        for quantity in ("sky_noise", "zero_point")
        for image in ("srch", "tmpl")
    ),
]
PAIR, TRIPLET = ("srch", "tmpl"), ("diff", "srch", "tmpl")


@dataclass(frozen=True)
class Variant:
    """A network: its channels, and what else it is given."""

    channels: tuple[str, ...]
    side: tuple[str, ...] = ()
    matching: tuple[str, ...] = ()
    conditions: bool = False
    network: dict[str, Any] = field(default_factory=dict)
    longer: float = 1.0
    size: int = CUT
    trained_on: str = "first"

    @property
    def planes(self) -> tuple[Any, ...]:
        """What decides its planes."""
        return self.channels, self.side, self.matching, self.conditions, self.size

    def build(self, size: int) -> StampNetwork:
        """A new network with random weights for stamps of `size` px."""
        return StampNetwork(
            (len(self.channels), size, size), self.channels, self.side, self.matching,
            self.conditions, tta=True, n_side=len(self.side), **self.network,
        )  # fmt: skip


def _frame(job: tuple[int, int, bool, int]) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Stamps, their PSFs and the catalogue of one frame."""
    seed, number, kinds, size = job
    from rb.survey.frame import simulate_frame
    from rb.survey.settings import settings_from_config

    config: dict[str, Any] = {"seed": seed, "planes": ["psf"]}
    config |= {"detection": {"stamp_size": size}}
    if kinds:
        config |= {"events": KINDS["events"]}
        config["detection"] |= KINDS["detection"]
    frame = simulate_frame(settings_from_config(config), number)
    stamps = frame.stamps
    assert stamps.psf is not None
    return stamps.images, np.asarray(stamps.psf), pd.DataFrame(frame.catalogue)


def start() -> None:
    """Begin a process of the simulation: one thread in each."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


@dataclass
class Candidates:
    """Some candidates in memory."""

    images: np.ndarray
    psf: np.ndarray
    catalogue: pd.DataFrame

    def __len__(self) -> int:
        return len(self.images)

    def side(self, rows: slice) -> np.ndarray:
        """Side vectors (n, m) in the order of `SIDE`; 0 where unknown."""
        scalars = self.catalogue[[name for name in SIDE if name != "psf"]].to_numpy(np.float32)
        psf = self.psf[rows].reshape(-1, self.psf[0].size)
        return np.nan_to_num(np.concatenate([psf, scalars[rows]], 1))


def simulate(
    pool: Any,
    seed: int,
    wanted: int,
    until: float,
    folder: Path,
    size: int,
    kinds: bool = False,
) -> Candidates:
    """The first `wanted` candidates of a survey, or those that are there in time."""
    files = [folder / f"{seed}-{name}" for name in ("images.npy", "psf.npy", "rows.parquet")]
    if not files[-1].exists():
        images = None
        psfs, catalogues, total = [], [], 0
        # Few frames ahead: those that are under way when there are enough are lost.
        pending: deque[Any] = deque()
        for number in itertools.count():
            pending.append(pool.apply_async(_frame, ((seed, number, kinds, size),)))
            if len(pending) <= 2 * (os.cpu_count() or 1):
                continue
            stamps, psf, catalogue = pending.popleft().get()
            take = min(len(stamps), wanted - total)
            if images is None:
                images = np.empty((wanted, *stamps.shape[1:]), np.float32)
            images[total : total + take] = stamps[:take]
            catalogues.append(catalogue.iloc[:take])
            psfs.append(psf[:take])
            total += take
            if total == wanted or time.monotonic() > until:
                break
        for under_way in pending:  # ending a pool in the middle of its work can hang
            under_way.wait()
        assert images is not None
        np.save(files[0], images[:total])
        np.save(files[1], np.concatenate(psfs))
        pd.concat(catalogues, ignore_index=True).to_parquet(files[2])
    return Candidates(
        np.load(files[0], mmap_mode="r"), np.load(files[1]), pd.read_parquet(files[2])
    )


class Raw:
    """Raw stamps and side vectors of all candidates on the device."""

    def __init__(self, sets: list[Candidates], device: torch.device) -> None:
        n, shape = sum(map(len, sets)), sets[0].images.shape[1:]
        self.images = torch.empty((n, *shape), device=device)
        self.side = torch.empty((n, sets[0].psf[0].size + len(SIDE) - 1), device=device)
        start = 0
        for candidates in sets:
            for first in range(0, len(candidates), 4096):
                rows = slice(first, min(first + 4096, len(candidates)))
                stop = start + rows.stop - rows.start
                self.images[start:stop] = torch.from_numpy(np.array(candidates.images[rows]))
                self.side[start:stop] = torch.from_numpy(candidates.side(rows))
                start = stop
        self.images.nan_to_num_()


def crops(images: Tensor, size: int, offsets: Tensor | None = None) -> Tensor:
    """Stamps of `size` px out of (n, c, S, S), `offsets` (n, 2) px beside the middle."""
    first = images.shape[-1] // 2 - size // 2
    if offsets is None:
        return images[..., first : first + size, first : first + size]
    at = first + torch.arange(size, device=images.device)
    y, x = (offsets[:, i, None] + at for i in (0, 1))
    n, c = (torch.arange(k, device=images.device) for k in images.shape[:2])
    return images[n[:, None, None, None], c[:, None, None], y[:, None, :, None], x[:, None, None]]


def random_offsets(n: int, radius: tuple[float, float], seed: int, device: Any) -> Tensor:
    """Whole pixels (n, 2), even over the ring between two radii."""
    random = torch.Generator(device).manual_seed(seed)
    r, angle = torch.rand(2, n, generator=random, device=device)
    r = (radius[0] ** 2 + r * (radius[1] ** 2 - radius[0] ** 2)).sqrt()
    angle = angle * (2 * torch.pi)
    return torch.stack([r * angle.sin(), r * angle.cos()], 1).round().long()


class Planes:
    """Planes and scalars of candidates for one network, on the device in half precision."""

    def __init__(
        self,
        network: StampNetwork,
        variant: Variant,
        raw: Raw,
        rows: Tensor,
        offsets: Tensor | None = None,
    ) -> None:
        device, n, size = raw.images.device, len(rows), variant.size
        kind = torch.float16 if device.type == "cuda" else torch.float32
        self.planes = torch.empty(
            (n, len(network.planes.names), size, size), dtype=kind, device=device
        )
        self.scalars = torch.empty((n, network.planes.n_scalars), device=device)
        chosen = torch.tensor([TRIPLET.index(channel) for channel in variant.channels])
        for start in range(0, n, 2048):
            part = slice(start, start + 2048)
            side = raw.side[rows[part]] if variant.side else None
            images = crops(
                raw.images[rows[part]][:, chosen], size, None if offsets is None else offsets[part]
            )
            with torch.no_grad():
                planes, scalars = network.planes(images.contiguous(), side)
            self.planes[part], self.scalars[part] = planes.to(kind), scalars


@dataclass(frozen=True)
class Recipe:
    """What `conf/trainer/modern.yaml` says."""

    lr: float
    weight_decay: float
    warm_up: float
    batch_size: int
    label_smoothing: float
    ema: float

    @classmethod
    def read(cls) -> Recipe:
        """Read it."""
        settings = yaml.safe_load((ROOT / "conf/trainer/modern.yaml").read_text())
        optimizer, scheduler = settings["optimizer"], settings["scheduler"]
        return cls(
            lr=scheduler["max_lr"],
            weight_decay=optimizer["weight_decay"],
            warm_up=scheduler["pct_start"],
            batch_size=settings["batch_size"],
            label_smoothing=settings["label_smoothing"],
            ema=settings["ema"],
        )


class Trainer:
    """Train one network on planes that lie on its device."""

    def __init__(
        self,
        network: StampNetwork,
        data: Planes,
        labels: Tensor,
        rows: Tensor,
        recipe: Recipe,
        epochs: int,
    ) -> None:
        self.network, self.data, self.labels, self.recipe = network, data, labels, recipe
        self.rows = rows
        self.device = labels.device
        self.epochs = epochs
        trained = [p for p in network.parameters() if p.requires_grad]
        cuda = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            trained,
            lr=torch.tensor(recipe.lr, device=self.device) if cuda else recipe.lr,
            weight_decay=recipe.weight_decay,
            capturable=cuda,
            fused=cuda,
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.lr, epochs, pct_start=recipe.warm_up, cycle_momentum=False
        )
        self.live = [t for t in network.state_dict().values() if t.is_floating_point()]
        self.batch = torch.zeros(
            min(recipe.batch_size, len(rows)), dtype=torch.int64, device=self.device
        )
        self.loss = torch.zeros((), device=self.device)
        self.weight = torch.ones((), device=self.device)

    def step(self) -> None:
        """One batch: `self.batch` holds its rows."""
        planes = self.data.planes[self.batch].float()
        planes = turn_each(planes, random_elements(len(planes), self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.network.classify(planes, self.data.scalars[self.batch])
        loss = torch.nn.functional.cross_entropy(
            logits.float(), self.labels[self.batch], label_smoothing=self.recipe.label_smoothing
        )
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for old, new in zip(self.averaged, self.live, strict=True):
                old.lerp_(new, self.weight)
            self.loss.lerp_(loss, 0.02)

    def fit(self, seed: int, graph: bool) -> float:
        """Train; the network ends with its averaged weights. Gives seconds of the epochs."""
        torch.manual_seed(seed)
        self.network.train()
        self.averaged = [t.clone() for t in self.live]
        run = self._captured() if graph else self.step
        for old, new in zip(self.averaged, self.live, strict=True):
            old.copy_(new)
        generator = torch.Generator(self.device).manual_seed(seed)
        start, steps = time.monotonic(), 0
        for _ in range(self.epochs):
            order = torch.randperm(len(self.rows), generator=generator, device=self.device)
            for rows in self.rows[order].split(len(self.batch)):
                if len(rows) == len(self.batch):
                    self.batch.copy_(rows)
                    self.weight.fill_(1 - averaging(self.recipe.ema, steps))
                    run()
                    steps += 1
            self.scheduler.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.monotonic() - start
        for new, old in zip(self.live, self.averaged, strict=True):
            new.copy_(old)
        return seconds

    def _captured(self) -> Any:
        """The step as a CUDA graph: launching its hundreds of kernels takes longer than they do."""
        state = [t.clone() for t in self.network.state_dict().values()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        # Undo what trying it out did.
        with torch.no_grad():
            for tensor, before in zip(self.network.state_dict().values(), state, strict=True):
                tensor.copy_(before)
            for moments in self.optimizer.state.values():
                for value in moments.values():
                    value.zero_()
        return graph.replay


def score(network: StampNetwork, data: Planes, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """logit(p_real) of rows: averaged over the eight turns, and of the stamp as it is."""
    network.eval()
    device = data.planes.device
    both: list[list[np.ndarray]] = [[], []]
    for start in range(rows.start, rows.stop, 4096):
        part = slice(start, min(start + 4096, rows.stop))
        planes, scalars = data.planes[part].float(), data.scalars[part]
        logits = []
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"),
        ):
            for element in DIHEDRAL:
                features = network.features(turned(planes, element), scalars)
                with torch.autocast(device.type, enabled=False):
                    logits.append(network.head(features.float()).log_softmax(1))
        averaged = torch.stack(logits).logsumexp(0)
        for into, found in zip(both, (averaged, logits[0]), strict=True):
            into.append((found[:, 0] - found[:, 1]).cpu().numpy())
    return np.concatenate(both[0]), np.concatenate(both[1])
