"""What came of searches of many frames, as tables: completeness, purity, photometry, cost."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from rb.metrics.search import completeness
from rb.scan.task import TOLD_SNR
from rb.stamps.resumable import Part
from rb.survey.settings import SurveySettings

# Edges of ranges; of the template beside the search image: FWHM, and noise on one flux scale.
_SNR = (5.0, 6.0, 8.0, 12.0, 25.0, np.inf)
_MAGNITUDES = (-np.inf, 21.5, 22.5, 23.0, 23.5, 24.0, np.inf)
_STAR_ARCSEC = (0.0, 5.0, 10.0, 20.0, np.inf)
_SEEING = (0.0, 0.8, 1.0, np.inf)
_DEPTH = (0.0, 0.4, 0.5, 0.6, np.inf)
_HOSTS = ("none", "off the nucleus", "on the nucleus")
_NUCLEUS_PX = 2.0


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
        self.depth = (conditions["noise_template"] / conditions["noise_search"]).to_numpy()
        asked = (self.events["snr"] >= TOLD_SNR) & ~self.events["masked"]
        self.told = self.events[asked].reset_index(drop=True)
        self.cpu = pd.DataFrame([p.note["cpu"] for p in parts])
        self.rates = tuple(float(r) for r in study["rates"])
        size = settings.scene
        self.pixels, self.scale = size.frame_size**2, size.pixel_scale
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

    def by_kind(self, names: list[str], rate: float) -> dict[str, pd.DataFrame]:
        """Completeness at a rate of false positives, by what tells events and frames apart."""
        told, frame = self.told, self.told["frame"].to_numpy()
        host = told["host_sep_px"].to_numpy(dtype=float)
        hosts = (np.isnan(host), host > _NUCLEUS_PX, host <= _NUCLEUS_PX)
        groups = {
            "SNR": _between(told["snr"], _SNR),
            "magnitude": _between(told["mag"], _MAGNITUDES),
            "host": dict(zip(_HOSTS, hosts, strict=True)),
            "bright star": _between(self.scale * told["star_sep_px"], _STAR_ARCSEC, " arcsec"),
            "seeing": _between(self.seeing[frame], _SEEING, " of the search image's FWHM"),
            "depth": _between(self.depth[frame], _DEPTH, " of the search image's noise"),
        }
        return {by: self._groups(names, group, rate) for by, group in groups.items()}

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


def _between(values: Any, edges: tuple[float, ...], unit: str = "") -> dict[str, np.ndarray]:
    """Rows in each of the ranges between `edges`, by what they are called."""
    values = np.asarray(values, dtype=float)
    found = {}
    for low, high in itertools.pairwise(edges):
        name = f"{low:g}-{high:g}"
        if low <= 0:
            name = f"< {high:g}"
        elif high == np.inf:
            name = f"> {low:g}"
        found[name + unit] = (values >= low) & ((values < high) | (high == np.inf))
    return found


def _spread(values: pd.Series) -> float:
    return 1.4826 * float((values - values.median()).abs().median())
