"""Whole images searched without difference imaging and with it, side by side."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from rb.errors import UserError
from rb.evaluation.choose import select
from rb.figures.studies.scan import completeness_figure, photometry_figure
from rb.io.progress import bar
from rb.metrics.search import completeness
from rb.models.dense import DenseNetwork
from rb.report.sections import Picture, Report, Section
from rb.report.terminal import frame_table
from rb.scan.benchmark import IMAGING, search_frame
from rb.scan.task import TOLD_SNR
from rb.scoring.export import network_scorer, weights_digest
from rb.settings import Items, Number, Rule, Text, Whole, check
from rb.stamps.resumable import Part, Parts
from rb.survey.settings import SurveySettings, settings_from_config
from rb.tracking import Tracking

SETTINGS: dict[str, Rule] = {
    "frames": Whole(2, 100000),
    "seed": Whole(0),
    "rates": Items(Number(above=0), least=1),
    "draws": Whole(10, 100000),
    "bar": Text("a model that judges stamps"),
}
_SNR = ((5.0, 6.0), (6.0, 8.0), (8.0, 12.0), (12.0, 25.0), (25.0, np.inf))
_HOSTS = ("none", "off the nucleus", "on the nucleus")
_NUCLEUS_PX = 2.0


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> Report:
    """Search the frames by everything that ``config["runs"]`` names, and compare.

    Networks that search images stand for themselves; those that judge stamps are given the
    candidates of difference imaging with a low threshold.

    Raises
    ------
    UserError
        If no run is found, or none searches images.
    """
    study = check({key: config["study"][key] for key in SETTINGS}, SETTINGS, "study")
    dense, stamps, digests = models_of(config["runs"], tracking)
    if study["bar"] not in stamps:
        raise UserError(
            f"study.bar is '{study['bar']}', which is not among the runs that judge stamps "
            f"({', '.join(stamps) or 'there is none'}); add it to runs"
        )
    simulated = config["data"].get("name") in ("simulated", "frames")
    given = config["data"] if simulated else {}
    settings = survey_of(given, study | {"detection": config["study"]["detection"]})
    cache = Path(config["paths"]["cache"])
    parts = search_frames(cache, settings, study["frames"], dense, stamps, digests)
    tables = SearchTables(parts, study, settings)
    names = tables.names
    result = tables.by_rate(names)
    console.print(frame_table(_named(result), f"completeness, true SNR >= {TOLD_SNR:g}"))
    thresholds = dict.fromkeys(dense, 0.5)
    flux = tables.photometry([*dense, IMAGING])
    console.print(frame_table(flux, "photometry of what was found"))
    about = (
        f"{study['frames']} simulated frames of seed {study['seed']}, "
        f"{len(tables.told)} supernovae of true SNR {TOLD_SNR:g} and more on unmasked pixels, "
        f"{tables.area:.2f} square degrees. A false positive is a find more than 2.5 px from "
        f"everything that was put in. Intervals: bootstrap over frames, {study['draws']} draws. "
        f"'{IMAGING}' is difference imaging with the settings study.detection, ranked by SNR; "
        f"networks of stamps judge its candidates."
    )
    found = [
        Section(
            "rates",
            "Completeness at a rate of false positives",
            [about],
            [
                Picture(
                    "completeness",
                    completeness_figure(tables.curves(names), tables.by_snr(names, 1.0)),
                    "Left: completeness against false positives a frame. Right: at one false "
                    "positive a frame, against true SNR.",
                )
            ],
            {
                "completeness": _named(result),
                "minus the bar, paired": _named(tables.against(names, study["bar"])),
                "at one false positive a frame, by true SNR": _named(tables.by_snr(names, 1.0)),
                "at one false positive a frame, by magnitude": _named(
                    tables.by_magnitude(names, 1.0)
                ),
                "at one false positive a frame, by seeing": _named(tables.by_seeing(names, 1.0)),
                "at one false positive a frame, by host": _named(tables.by_host(names, 1.0)),
                "found among the k surest of a frame, k the number that is there": _named(
                    tables.rank(names)
                ),
            },
        ),
        Section(
            "operating",
            "Operating points",
            [
                "Rubin asks a classifier for a completeness of 0.9 and a purity of 0.95 at a "
                "signal-to-noise ratio of 6 (DMTN-337)."
            ],
            [],
            {
                "SNR of 6 and more": _named(tables.purity(names)),
                "at the model's own threshold": _named(tables.at_threshold(thresholds)),
            },
        ),
        Section(
            "photometry",
            "Photometry of what was found",
            ["Flux against the truth, of supernovae that both found at their matched places."],
            [
                Picture(
                    "photometry",
                    photometry_figure(tables.pulls([*dense, IMAGING])),
                    "(flux - truth) / error against true SNR.",
                )
            ],
            {"photometry": flux},
        ),
        Section("cost", "Cost", [], [], {"CPU seconds, one thread": tables.cost()}),
    ]
    value = float(tables.scores(next(iter(dense)), (1.0,))[0, 0])
    return Report(found, value=value)


def models_of(
    runs: Any, tracking: Tracking
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What `runs` names: networks that search, what judges stamps, and digests of all weights.

    Raises
    ------
    UserError
        If none of them searches images.
    """
    dense: dict[str, Any] = {}
    stamps: dict[str, Any] = {}
    digests: dict[str, str] = {}
    for chosen in select(tracking, runs):
        name, number = chosen.name, 2
        while name in digests:
            name, number = f"{chosen.name} {number}", number + 1
        network = chosen.model.network
        scorer = None if network is None else network_scorer(chosen.model)
        digests[name] = weights_digest(scorer) if scorer else chosen.run_id
        if isinstance(network, DenseNetwork):
            dense[name] = network.eval()
        else:
            stamps[name] = chosen.model
    if not dense:
        raise UserError(
            "runs: none of them searches images; train one with `train.py experiment=scan`, or add "
            "scan, the one of the package"
        )
    return dense, stamps, digests


def survey_of(given: dict[str, Any], study: dict[str, Any]) -> SurveySettings:
    """The survey that is searched: `given` groups of settings, the study's seed and detection."""
    groups = ("scene", "events", "exposure", "artefacts", "subtraction", "detection")
    values = {key: dict(given[key]) for key in groups if key in given}
    values["detection"] = values.get("detection", {}) | study["detection"]
    return settings_from_config(values | {"seed": study["seed"]})


def search_frames(
    cache: Path,
    settings: SurveySettings,
    n_frames: int,
    dense: dict[str, Any],
    stamps: dict[str, Any],
    digests: dict[str, str],
) -> list[Part]:
    """Search all frames; what was searched before by the same models is read."""
    key = hashlib.sha256(json.dumps([settings.digest(), digests]).encode()).hexdigest()[:16]
    kept = Parts(cache / f"scan-study-{key}")
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with bar(True, "searching", n_frames, "frames") as step, threadpool_limits(1):
            for number in range(n_frames):
                part = kept.read(number)
                if part is None:
                    part = search_frame(settings, dense, stamps, number)
                    kept.write(number, part)
                found.append(part)
                step.advance()
    finally:
        torch.set_num_threads(threads)
    return found


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.reset_index(names="search")


class SearchTables:
    """What came of the searches, as tables."""

    def __init__(self, parts: list[Part], study: dict[str, Any], settings: SurveySettings) -> None:
        self.study = study
        self.frames = np.arange(len(parts))
        self.finds = pd.concat(
            [p.rows.assign(frame=i) for i, p in enumerate(parts)], ignore_index=True
        )
        self.names = list(dict.fromkeys(self.finds["search"]))
        events = [
            pd.DataFrame(p.note["events"]).assign(frame=i).reset_index(names="event")
            for i, p in enumerate(parts)
        ]
        self.events = pd.concat(events, ignore_index=True)
        conditions = pd.DataFrame([p.note["conditions"] for p in parts])
        self.seeing = (conditions["fwhm_template"] / conditions["fwhm_search"]).to_numpy()
        asked = (self.events["snr"] >= TOLD_SNR) & ~self.events["masked"]
        self.told = self.events[asked].reset_index(drop=True)
        self.cpu = pd.DataFrame([p.note["cpu"] for p in parts])
        self.rates = tuple(float(r) for r in study["rates"])
        size = settings.scene
        self.pixels = size.frame_size**2
        self.area = len(parts) * (size.frame_size * size.pixel_scale / 3600.0) ** 2

    def _of(self, name: str) -> tuple[np.ndarray, pd.DataFrame]:
        """Score by which each event was found, and the false positives."""
        mine = self.finds[self.finds["search"] == name]
        best = mine[mine["event"] >= 0].groupby(["frame", "event"])["score"].max()
        keys = pd.MultiIndex.from_frame(self.told[["frame", "event"]])
        found = best.reindex(keys).to_numpy(dtype=float)
        return np.where(np.isfinite(found), found, -np.inf), mine[mine["event"] < 0]

    def scores(
        self, name: str, rates: tuple[float, ...], draws: int = 0, rows: Any = None
    ) -> np.ndarray:
        """Completeness at each rate, (1 or draws, rates); of some of the events if `rows`."""
        found, false = self._of(name)
        told = self.told
        if rows is not None:
            found, told = found[rows], told[rows]
        return completeness(
            found,
            told["frame"].to_numpy(),
            false["score"].to_numpy(dtype=float),
            false["frame"].to_numpy(),
            self.frames,
            rates,
            draws,
        )

    def by_rate(self, names: list[str]) -> pd.DataFrame:
        """Completeness at the study's rates with intervals, and what was ever detected."""
        rows = {}
        for name in names:
            value = self.scores(name, self.rates)[0]
            low, high = self._interval(self.scores(name, self.rates, self.study["draws"]))
            cells = {
                f"{rate:g} a frame": f"{v:.3f} ({lo:.3f}-{hi:.3f})"
                for rate, v, lo, hi in zip(self.rates, value, low, high, strict=True)
            }
            rows[name] = {"ever": f"{np.isfinite(self._of(name)[0]).mean():.3f}"} | cells
        return pd.DataFrame(rows).T

    def _interval(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.nanquantile(draws, [0.025, 0.975], axis=0))  # type: ignore[return-value]

    def against(self, names: list[str], bar_name: str) -> pd.DataFrame:
        """Completeness minus that of the bar, on the same draws of frames."""
        draws = self.study["draws"]
        base, base_draws = (
            self.scores(bar_name, self.rates)[0],
            self.scores(bar_name, self.rates, draws),
        )
        rows = {}
        for name in names:
            if name == bar_name:
                continue
            value = self.scores(name, self.rates)[0] - base
            low, high = self._interval(self.scores(name, self.rates, draws) - base_draws)
            rows[name] = {
                f"{rate:g} a frame": f"{v:+.3f} ({lo:+.3f} to {hi:+.3f})"
                for rate, v, lo, hi in zip(self.rates, value, low, high, strict=True)
            }
        return pd.DataFrame(rows).T

    def curves(self, names: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Completeness against false positives a frame."""
        lowest = 1.0 / len(self.frames)
        rates = np.geomspace(lowest, max(10.0, lowest), 40)
        return {name: (rates, self.scores(name, tuple(rates))[0]) for name in names}

    def by_snr(self, names: list[str], rate: float) -> pd.DataFrame:
        """Completeness in ranges of true SNR."""
        snr = self.told["snr"].to_numpy()
        groups = {
            f"{low:g}-{high:g}" if np.isfinite(high) else f"> {low:g}": (snr >= low) & (snr < high)
            for low, high in _SNR
        }
        return self._groups(names, groups, rate)

    def by_magnitude(self, names: list[str], rate: float) -> pd.DataFrame:
        """Completeness in ranges of true magnitude."""
        mag = self.told["mag"].to_numpy(dtype=float)
        edges = (-np.inf, 21.5, 22.5, 23.0, 23.5, 24.0, np.inf)
        groups = {
            f"{low:g} to {high:g}": (mag >= low) & (mag < high)
            for low, high in itertools.pairwise(edges)
        }
        return self._groups(names, groups, rate)

    def by_seeing(self, names: list[str], rate: float) -> pd.DataFrame:
        """Completeness by the FWHM of the template over that of the search image."""
        ratio = self.seeing[self.told["frame"].to_numpy()]
        groups = {
            "sharper template (< .8)": ratio < 0.8,
            ".8 to 1": (ratio >= 0.8) & (ratio < 1),
            "blurrier (> 1)": ratio >= 1,
        }
        return self._groups(names, groups, rate)

    def by_host(self, names: list[str], rate: float) -> pd.DataFrame:
        """Completeness without a host, off its nucleus, and on it."""
        separation = self.told["host_sep_px"].to_numpy(dtype=float)
        masks = (
            np.isnan(separation),
            separation > _NUCLEUS_PX,
            separation <= _NUCLEUS_PX,
        )
        return self._groups(names, dict(zip(_HOSTS, masks, strict=True)), rate)

    def _groups(self, names: list[str], groups: dict[str, Any], rate: float) -> pd.DataFrame:
        rows = {
            name: {
                f"{group} ({int(rows.sum())})": float(self.scores(name, (rate,), 0, rows)[0, 0])
                for group, rows in groups.items()
            }
            for name in names
        }
        return pd.DataFrame(rows).T.round(3)

    def rank(self, names: list[str]) -> pd.DataFrame:
        """Share of the events among the k highest of each frame, k of them there."""
        rows = {}
        for name in names:
            mine = self.finds[self.finds["search"] == name]
            hit = total = 0
            for frame, told in self.told.groupby("frame"):
                k = len(told)
                top = mine[mine["frame"] == frame].nlargest(k, "score")
                hit += int(told["event"].isin(top["event"]).sum())
                total += k
            rows[name] = {"recall at rank k": hit / total if total else np.nan}
        return pd.DataFrame(rows).T.round(3)

    def purity(self, names: list[str], least: float = 0.95, snr: float = 6.0) -> pd.DataFrame:
        """Completeness, true SNR of `snr` and more, where `least` of the finds are real.

        Finds are those with a measured SNR of `snr` and more; searches that measure none are left
        out.
        """
        bright = self.told["snr"].to_numpy() >= snr
        rows = {}
        for name in names:
            mine = self.finds[self.finds["search"] == name]
            mine = mine[mine["flux"] / mine["flux_err"] >= snr].sort_values(
                "score", ascending=False
            )
            if not len(mine):
                continue
            pure = (mine["event"] >= 0).cumsum() / np.arange(1, len(mine) + 1)
            enough = np.flatnonzero(pure.to_numpy() >= least)
            limit = mine["score"].iloc[enough[-1]] if len(enough) else np.inf
            rows[name] = {
                f"completeness at purity {least:g}": (self._of(name)[0][bright] >= limit).mean(),
                "finds": int(enough[-1]) + 1 if len(enough) else 0,
            }
        return pd.DataFrame(rows).T.round(3)

    def at_threshold(self, thresholds: dict[str, float]) -> pd.DataFrame:
        """Searches at the probability from which on they call something real."""
        rows = {}
        for name, p in thresholds.items():
            found, false = self._of(name)
            limit = np.log(p / (1 - p))
            n = int((false["score"] >= limit).sum())
            rows[name] = {
                "p_real": p,
                "completeness": (found >= limit).mean() if len(found) else np.nan,
                "false positives a frame": n / len(self.frames),
                "a square degree": n / self.area,
            }
        return pd.DataFrame(rows).T.round(3)

    def pulls(self, names: list[str]) -> dict[str, pd.DataFrame]:
        """Of supernovae found by all: true SNR, pull, and flux over the truth."""
        found = {}
        for name in names:
            mine = self.finds[(self.finds["search"] == name) & (self.finds["event"] >= 0)]
            best = mine.sort_values("score").groupby(["frame", "event"]).tail(1)
            found[name] = best.merge(
                self.told, on=["frame", "event"], suffixes=("_found", "_true")
            ).set_index(["frame", "event"])
        common = None
        for table in found.values():
            common = table.index if common is None else common.intersection(table.index)
        assert common is not None
        out = {}
        for name, table in found.items():
            rows = table.loc[common]
            out[name] = pd.DataFrame(
                {
                    "snr": rows["snr"],
                    "pull": (rows["flux_found"] - rows["flux_true"]) / rows["flux_err"],
                    "ratio": rows["flux_found"] / rows["flux_true"],
                    "off_px": np.hypot(
                        rows["x_found"] - rows["x_true"], rows["y_found"] - rows["y_true"]
                    ),
                    "host": np.where(
                        rows["host_sep_px"].isna(), 0,
                        np.where(rows["host_sep_px"] > _NUCLEUS_PX, 1, 2),
                    ),
                }
            )  # fmt: skip
        return out

    def photometry(self, names: list[str]) -> pd.DataFrame:
        """Bias, scatter and pulls, robust (median, 1.48 MAD), by true SNR and by host."""
        rows = []
        for name, table in self.pulls(names).items():
            groups = {
                f"SNR {low:g}-{high:g}": (table["snr"] >= low) & (table["snr"] < high)
                for low, high in ((5.0, 10.0), (10.0, 25.0), (25.0, np.inf))
            } | {f"host: {host}": table["host"] == i for i, host in enumerate(_HOSTS)}
            for group, mask in groups.items():
                some = table[mask]
                rows.append(
                    {
                        "search": name,
                        "which": group,
                        "n": len(some),
                        "bias": some["ratio"].median() - 1,
                        "scatter": _spread(some["ratio"]),
                        "median pull": some["pull"].median(),
                        "width of pulls": _spread(some["pull"]),
                        "position, px": some["off_px"].median(),
                    }
                )
        return pd.DataFrame(rows).round(3)

    def cost(self) -> pd.DataFrame:
        """Median CPU seconds of each step for a frame and for a megapixel."""
        median = self.cpu.median()
        return (
            pd.DataFrame({"a frame": median, "a megapixel": median / (self.pixels / 1e6)})
            .round(3)
            .reset_index(names="step")
        )


def _spread(values: pd.Series) -> float:
    return 1.4826 * float((values - values.median()).abs().median())
