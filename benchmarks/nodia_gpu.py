"""Train with and without the difference image on one GPU: many networks in a few minutes.

    python benchmarks/nodia_gpu.py OUT [--budget 480] [--toy]

The survey is simulated on all cores into memory (training and validation frames from one seed, test
frames from others), the planes of each network are made once and stay on the GPU, and networks are
trained in the order of their importance until the budget is spent. What is finished is kept in
`--work`, and running it again goes on. It needs neither Hydra nor MLflow; the recipe is that of
`conf/trainer/modern.yaml`. Written into OUT:

    results.csv      one row a training: metrics on the test set, time, settings
    offsets.csv      the same metrics on test candidates that are not in the middle of their stamps
    kinds.csv        share called real of each kind of source, on a survey with all of them
    scores.npz       logit(p_real) of every test and validation candidate by each training, float16
    candidates.parquet  their labels and what the survey knows of them
    weights.pt       weights of the largest trainings, with what describes their networks
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import time
from collections import deque
from dataclasses import dataclass, field, replace
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
TRAIN_SEED, TEST_SEED, KINDS_TRAIN_SEED, KINDS_TEST_SEED = 2203, 7390, 3581, 8841
KINDS = yaml.safe_load((ROOT / "conf/data/kinds.yaml").read_text())
CUT, ROOM = 51, 15
"""Pixels of a stamp, and how far from its middle a candidate may be cut."""
OFFSETS = (0, 2, 4, 6, 8, 10, 12, 15)
SIDE = [
    "psf",
    *(
        f"{quantity}_{image}"
        for quantity in ("sky_noise", "zero_point")
        for image in ("srch", "tmpl")
    ),
]
KEPT = (
    "id", "label", "group", "kind", "snr", "mag", "mag_ref", "nn_dist_arcsec", "ellipticity",
    "true_mag", "host_mag", "host_sep_arcsec", "seeing_srch", "seeing_tmpl", "band", "field",
)  # fmt: skip


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
    registered: bool = True

    @property
    def planes(self) -> tuple[Any, ...]:
        """What decides its planes."""
        return (
            self.channels, self.side, self.matching, self.conditions, self.size, self.registered
        )  # fmt: skip

    def build(self, size: int) -> StampNetwork:
        """A new network with random weights for stamps of `size` px."""
        return StampNetwork(
            (len(self.channels), size, size), self.channels, self.side, self.matching,
            self.conditions, tta=True, n_side=len(self.side), **self.network,
        )  # fmt: skip


PAIR, TRIPLET = ("srch", "tmpl"), ("diff", "srch", "tmpl")
MATCHED: dict[str, Any] = {"side": tuple(SIDE), "matching": ("cross", "fit"), "conditions": True}
MAIN = {
    "dia": Variant(TRIPLET),
    "nodia": Variant(PAIR),
    "nodia_matched": Variant(PAIR, **MATCHED),
    "dia_matched": Variant(TRIPLET, **MATCHED),
}
MATCHINGS = {
    "nodia_centred": replace(MAIN["nodia_matched"], registered=False),
    "nodia_full": Variant(PAIR, **MATCHED | {"matching": ("cross", "fit", "fit_all")}),
    "nodia_white": Variant(
        PAIR, **MATCHED | {"matching": ("cross", "fit", "white_cross", "white_fit")}
    ),
    "nodia_all": Variant(
        PAIR, **MATCHED | {"matching": ("cross", "fit", "fit_all", "white_cross", "white_fit_all")}
    ),
}
LONGER = {
    "dia_long": replace(MAIN["dia"], longer=2.0),
    "nodia_matched_long": replace(MAIN["nodia_matched"], longer=2.0),
    "nodia_full_long": Variant(
        PAIR, **MATCHED | {"matching": ("cross", "fit", "fit_all")}, longer=2.0
    ),
}
OTHERS = {
    f"{name}_{what}": replace(MAIN[name], **changes)
    for what, changes in {
        "shifted": {"trained_on": "shifted"},
        "sharp": {"trained_on": "sharp"},
        "half": {"trained_on": "half"},
        "30px": {"size": 30},
    }.items()
    for name in ("dia", "nodia_matched")
} | {
    f"{name}_kinds": replace(variant, trained_on="kinds")
    for name, variant in (MAIN | MATCHINGS).items()
}
PARTS = {
    "nodia_cross": Variant(PAIR, tuple(SIDE), ("cross",)),
    "nodia_fit": Variant(PAIR, (), ("fit",)),
    "nodia_conditions": Variant(PAIR, tuple(SIDE), (), True),
    "nodia_matched_narrow": Variant(PAIR, **MATCHED, network={"width": 16}),
    "dia_narrow": Variant(TRIPLET, network={"width": 16}),
}
PIXELWISE = {
    "pixelwise_matched": Variant(PAIR, **MATCHED, network={"trunk": "pixelwise", "width": 12}),
    "pixelwise": Variant(PAIR, network={"trunk": "pixelwise", "width": 12}),
}
VARIANTS = MAIN | MATCHINGS | LONGER | OTHERS | PARTS | PIXELWISE


def plan(sizes: list[int], seeds: int) -> list[tuple[str, int, int]]:
    """(variant, training candidates, seed), the most important first."""
    large, others = sizes[-1], sizes[-2::-1]
    few = range(1, seeds + 1)
    jobs = [(name, large, 1) for name in (*MAIN, *MATCHINGS, *LONGER)]
    jobs += [(name, large, seed) for seed in few for name in MAIN]
    jobs += [(name, large, 1) for name in OTHERS]
    jobs += [(name, n, 1) for n in others for name in MAIN]
    jobs += [(name, large, seed) for seed in few for name in LONGER]
    jobs += [(name, large, 1) for name in PARTS]
    jobs += [(name, n, seed) for seed in few for n in others for name in MAIN]
    jobs += [(name, large, 1) for name in PIXELWISE]
    jobs += [(name, large, seed) for seed in few for name in (*OTHERS, *PARTS)]
    return list(dict.fromkeys(jobs))


def epochs_for(n: int, most: int = 60_000, fewest: int = 25) -> int:
    """More rounds through fewer candidates: 25 for 60,000, 43 for 20,000, 87 for 5,000."""
    return round(fewest * (most / n) ** 0.5)


# --- the survey ---------------------------------------------------------------------------------


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


def _start() -> None:
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


# --- one training -------------------------------------------------------------------------------


class Raw:
    """Raw stamps and side vectors of all candidates on the device."""

    def __init__(self, sets: list[Candidates], device: torch.device) -> None:
        n, shape = sum(map(len, sets)), sets[0].images.shape[1:]
        self.images = torch.empty((n, *shape), device=device)
        self.side = torch.empty((n, sets[0].psf[0].size + len(SIDE) - 1), device=device)
        self.shift = torch.empty((n, 2), device=device)
        start = 0
        for candidates in sets:
            for first in range(0, len(candidates), 4096):
                rows = slice(first, min(first + 4096, len(candidates)))
                stop = start + rows.stop - rows.start
                self.images[start:stop] = torch.from_numpy(np.array(candidates.images[rows]))
                self.side[start:stop] = torch.from_numpy(candidates.side(rows))
                shift = (
                    candidates.catalogue[["shift_x", "shift_y"]].to_numpy(np.float32)[rows].copy()
                )
                self.shift[start:stop] = torch.from_numpy(shift)
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


def centred(side: Tensor, shift: Tensor) -> Tensor:
    """Side vectors whose search PSFs are moved back into the middle, by minus (x, y) px."""
    size = int((side.shape[1] // 2) ** 0.5)
    psf = side[:, : size**2].reshape(-1, size, size)
    along_x, along_y = (
        torch.exp(2j * torch.pi * frequency(size, device=side.device) * step[:, None])
        for frequency, step in zip((torch.fft.rfftfreq, torch.fft.fftfreq), shift.T, strict=True)
    )
    spectrum = torch.fft.rfft2(psf) * along_x[:, None, :] * along_y[:, :, None]
    moved = torch.fft.irfft2(spectrum, (size, size)).flatten(1)
    return torch.cat([moved, side[:, size**2 :]], 1)


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
            if side is not None and not variant.registered:
                side = centred(side, raw.shift[rows[part]])
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


# --- numbers ------------------------------------------------------------------------------------


def metrics(labels: np.ndarray, logit: np.ndarray) -> dict[str, float]:
    """Accuracy, AUC, and the share of real ones missed at two false-positive rates."""
    from sklearn.metrics import roc_auc_score

    real = labels == 0
    bogus = np.sort(logit[~real])[::-1]
    out = {
        "accuracy": float(((logit > 0) == real).mean()),
        "auc": float(roc_auc_score(real, logit)),
    }
    for rate in (0.01, 0.05):
        threshold = bogus[int(rate * len(bogus))]
        out[f"mdr_at_fpr_{rate}"] = float((logit[real] <= threshold).mean())
    return out


def table(results: pd.DataFrame) -> str:
    """Mean and scatter over seeds, and the difference in accuracy to the first variant."""
    rows = []
    for (variant, n), group in results.groupby(["variant", "n_train"], sort=False):
        first = results[(results["variant"] == "dia") & (results["n_train"] == n)]
        both = group.merge(first, on="seed", suffixes=("", "_dia"))
        spread = group["accuracy"].std() if len(group) > 1 else float("nan")
        rows.append({
            "variant": variant, "n": n, "seeds": len(group),
            "acc %": 100 * group["accuracy"].mean(), "sd": 100 * spread,
            "plain %": 100 * group["accuracy_plain"].mean(), "auc": group["auc"].mean(),
            "mdr.01": group["mdr_at_fpr_0.01"].mean(), "mdr.05": group["mdr_at_fpr_0.05"].mean(),
            "-dia %": 100 * (both["accuracy"] - both["accuracy_dia"]).mean(),
            "s": group["seconds"].mean(),
        })  # fmt: skip
    return pd.DataFrame(rows).to_string(index=False, float_format=lambda v: f"{v:.3f}")


def flops(network: StampNetwork, variant: Variant, size: int, n_side: int) -> int:
    """Floating-point operations for one candidate, without the averaging over turns."""
    from torch.utils.flop_counter import FlopCounterMode

    twin = variant.build(size).eval()
    twin.tta = False
    side = torch.zeros(1, n_side) if variant.side else None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, len(variant.channels), size, size), side)
    return int(counter.get_total_flops())


# --- all of it ----------------------------------------------------------------------------------


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for results")
    parser.add_argument("--work", type=Path, default=Path("/tmp/nodia"), help="kept between calls")
    parser.add_argument("--budget", type=float, default=480, help="seconds in all")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 60_000])
    parser.add_argument("--train", type=int, nargs="+", help="of these sizes, now; else all")
    parser.add_argument("--room", type=int, default=ROOM, help="px round a stamp, for offsets")
    parser.add_argument("--validation", type=int, default=6_000)
    parser.add_argument("--test", type=int, default=20_000)
    parser.add_argument("--kinds", type=int, nargs=2, default=[20_000, 10_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of the largest training; by default 25")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), help="these variants alone")
    parser.add_argument("--no-graph", action="store_true", help="launch kernels one by one")
    parser.add_argument("--toy", action="store_true", help="minutes on a CPU: does it run?")
    options = parser.parse_args()
    if options.toy:
        options.sizes, options.validation, options.test = [300, 600], 100, 300
        options.seeds, options.epochs, options.kinds = 1, 2, [200, 200]
    out, work = options.out, options.work
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)

    def left() -> float:
        return options.budget - (time.monotonic() - begun)

    test, training = options.test, options.sizes[-1]
    deadline = time.monotonic() + 0.4 * options.budget
    with multiprocessing.get_context("fork").Pool(options.processes, _start) as pool:
        size = CUT + 2 * options.room
        tested = simulate(pool, TEST_SEED, test, deadline, work, size)
        trained = simulate(pool, TRAIN_SEED, training + options.validation, deadline, work, size)
        more, others = (
            simulate(pool, seed, n, deadline, work, size, kinds=True)
            for seed, n in zip((KINDS_TRAIN_SEED, KINDS_TEST_SEED), options.kinds, strict=True)
        )
        pool.close()
        pool.join()
    n_train = len(trained) - options.validation
    if n_train < options.sizes[0]:
        raise SystemExit("the survey took too long: raise --budget")
    print(
        f"{n_train:,} training, {options.validation:,} validation, {len(tested):,} test "
        f"candidates after {time.monotonic() - begun:.0f} s, "
        f"{(trained.catalogue['label'] == 0).mean():.1%} of them real",
        flush=True,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    recipe = Recipe.read()
    sets = [trained, tested, others, more]
    begin = np.cumsum([0, *map(len, sets)])
    every = pd.concat([one.catalogue for one in sets], ignore_index=True)
    labels = torch.from_numpy(every["label"].to_numpy(np.int64)).to(device)
    held = slice(n_train, int(begin[3]))
    kept = every.iloc[held].assign(
        subset=np.repeat(["val", "test", "kinds"], [options.validation, len(tested), len(others)])
    )
    kept = kept[[c for c in ("subset", *KEPT) if c in kept]].reset_index(drop=True)
    kept.to_parquet(out / "candidates.parquet")
    truth, subset = kept["label"].to_numpy(), kept["subset"].to_numpy()
    sharp = np.flatnonzero(
        every["seeing_srch"].iloc[:n_train] < every["seeing_srch"].iloc[:n_train].median()
    )

    def rows_of(trained_on: str, n: int) -> np.ndarray:
        """Rows that a network is trained on."""
        if trained_on == "sharp":
            return sharp[sharp < n]
        if trained_on == "half":
            return np.arange(len(sharp[sharp < n]))
        if trained_on == "kinds":
            return np.concatenate([np.arange(n), np.arange(begin[3], begin[4])])
        return np.arange(n)

    done = work / "results.json"
    rows: list[dict[str, Any]] = json.loads(done.read_text()) if done.exists() else []
    finished = {(r["variant"], r["n_train"], r["seed"]) for r in rows}
    pace: dict[str, float] = {}
    offsets_done = work / "offsets.json"
    offset_rows = json.loads(offsets_done.read_text()) if offsets_done.exists() else []
    planes_of: dict[Any, Planes] = {}
    raw = Raw(sets, device)
    all_rows = torch.arange(int(begin[4]), device=device)
    written = time.monotonic()
    jobs = [
        job
        for job in plan([min(n, n_train) for n in options.sizes], options.seeds)
        if job not in finished
        and (not options.only or job[0] in options.only)
        and (not options.train or job[1] in options.train)
    ]
    for name, n, seed in jobs:
        variant = VARIANTS[name]
        chosen = torch.from_numpy(rows_of(variant.trained_on, n)).to(device)
        epochs = round(variant.longer * epochs_for(n, options.sizes[-1], options.epochs or 25))
        steps = epochs * (len(chosen) // recipe.batch_size)
        expected = 1.1 * steps * pace.get(name, max(pace.values(), default=0.0)) + 4
        if expected > left() - 10:
            continue
        torch.manual_seed(seed)
        network = variant.build(variant.size).to(device)
        started = time.monotonic()
        if variant.planes not in planes_of:
            planes_of[variant.planes] = Planes(network, variant, raw, all_rows)
        held_data = data = planes_of[variant.planes]
        of_data = labels
        if variant.trained_on == "shifted":
            # Each candidate at three places, the first of which is the middle.
            several = chosen.repeat(3)
            offsets = random_offsets(len(several), (0, ROOM), seed, device)
            offsets[:n] = 0
            data, of_data = Planes(network, variant, raw, several, offsets), labels[several]
            chosen, epochs = torch.arange(len(several), device=device), -(-epochs // 3)
        making = time.monotonic() - started
        graph = device.type == "cuda" and not options.no_graph and "pixelwise" not in name
        trainer = Trainer(network, data, of_data, chosen, recipe, epochs)
        seconds = trainer.fit(seed, graph)
        pace[name] = seconds / max(steps, 1)
        del data, trainer.data
        averaged, plain = score(network, held_data, held)
        row: dict[str, Any] = {"variant": name, "n_train": n, "seed": seed, "epochs": epochs}
        test, val = subset == "test", subset == "val"
        row |= metrics(truth[test], averaged[test])
        row |= {f"{k}_plain": v for k, v in metrics(truth[test], plain[test]).items()}
        row |= {f"{k}_val": v for k, v in metrics(truth[val], averaged[val]).items()}
        row |= {
            "loss": float(trainer.loss),
            "seconds": seconds,
            "parameters": sum(p.numel() for p in network.parameters()),
            "flops": flops(network, variant, variant.size, trained.psf[0].size + len(SIDE) - 1),
        }
        rows.append(row)
        roomy = options.room == ROOM and n == options.sizes[-1] and variant.size == CUT
        if roomy and (name in MAIN or variant.trained_on == "shifted"):
            offset_rows += _offsets(row, network, variant, raw, labels, begin)
        label = f"{name}-{n}-{seed}"
        np.savez(work / f"{label}.npz", averaged=averaged.astype("f2"), plain=plain.astype("f2"))
        torch.save({k: v.cpu() for k, v in network.state_dict().items()}, work / f"{label}.pt")
        done.write_text(json.dumps(rows))
        offsets_done.write_text(json.dumps(offset_rows))
        print(
            f"{time.monotonic() - begun:5.0f} s  {name:18} {n:6} seed {seed}: "
            f"acc {row['accuracy']:.4f} (plain {row['accuracy_plain']:.4f}) auc {row['auc']:.5f} "
            f"mdr {row['mdr_at_fpr_0.01']:.4f} {row['mdr_at_fpr_0.05']:.4f}  loss {row['loss']:.3f}"
            f"  {seconds:.1f} s, planes {making:.1f} s",
            flush=True,
        )
        if time.monotonic() - written > 60:
            _write(out, work, rows, offset_rows, kept)
            written = time.monotonic()
    _write(out, work, rows, offset_rows, kept)
    with contextlib.suppress(ValueError):
        print(table(pd.DataFrame(rows)))


def _offsets(
    row: dict[str, Any],
    network: StampNetwork,
    variant: Variant,
    raw: Raw,
    labels: Tensor,
    begin: np.ndarray,
    most: int = 5000,
) -> list[dict[str, Any]]:
    """Metrics on test candidates that were cut beside the middle of their stamps."""
    first, stop = int(begin[1]), min(int(begin[2]), int(begin[1]) + most)
    chosen = torch.arange(first, stop, device=labels.device)
    truth = labels[chosen].cpu().numpy()
    found = []
    for radius in OFFSETS:
        offsets = random_offsets(len(chosen), (radius, radius), 5, labels.device)
        data = Planes(network, variant, raw, chosen, offsets)
        averaged, _ = score(network, data, slice(0, len(chosen)))
        known = {k: row[k] for k in ("variant", "n_train", "seed")}
        found.append(known | {"offset_px": radius, "n": len(chosen)} | metrics(truth, averaged))
    return found


def _kinds(row: dict[str, Any], kept: pd.DataFrame, logit: np.ndarray) -> list[dict[str, Any]]:
    """Share of each kind of source that is called real, on the survey with all kinds."""
    known = {k: row[k] for k in ("variant", "n_train", "seed")}
    table = kept.assign(real=logit > 0)[kept["subset"] == "kinds"]
    return [
        known
        | {"kind": kind, "label": int(label), "n": len(some), "called_real": some["real"].mean()}
        for (kind, label), some in table.groupby(["kind", "label"])
    ]


def _write(
    out: Path,
    work: Path,
    rows: list[dict[str, Any]],
    offset_rows: list[dict[str, Any]],
    kept: pd.DataFrame,
    most: float = 15.5e6,
) -> None:
    pd.DataFrame(rows).to_csv(out / "results.csv", index=False)
    pd.DataFrame(offset_rows).to_csv(out / "offsets.csv", index=False)
    scores: dict[str, np.ndarray] = {}
    weights: dict[str, Any] = {}
    taken = 0
    kinds: list[dict[str, Any]] = []
    for row in rows:
        label = f"{row['variant']}-{row['n_train']}-{row['seed']}"
        with np.load(work / f"{label}.npz") as file:
            scores |= {label: file["averaged"], f"{label}-plain": file["plain"]}
        if VARIANTS[row["variant"]].size == CUT:
            kinds += _kinds(row, kept, scores[label])
    pd.DataFrame(kinds).to_csv(out / "kinds.csv", index=False)
    # Of the largest trainings, as many as fit into a file that is easily carried.
    first = {name: place for place, name in enumerate(VARIANTS)}
    rows = sorted(rows, key=lambda r: (-r["n_train"], r["seed"], first[r["variant"]]))
    for row in rows:
        label = f"{row['variant']}-{row['n_train']}-{row['seed']}"
        file = work / f"{label}.pt"
        taken += file.stat().st_size
        if taken > most:
            break
        variant = VARIANTS[row["variant"]]
        weights[label] = {
            "channels": list(variant.channels), "side": list(variant.side),
            "network": variant.network | {
                "matching": list(variant.matching), "conditions": variant.conditions
            },
            "state": torch.load(file, weights_only=True),
        }  # fmt: skip
    # Two files, because not all ways of fetching them take large ones.
    names = list(scores)
    for part, chosen in enumerate((names[::2], names[1::2])):
        np.savez_compressed(out / f"scores{part}.npz", **{name: scores[name] for name in chosen})
    torch.save(weights, out / "weights.pt")


if __name__ == "__main__":
    main()
