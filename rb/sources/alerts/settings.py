"""The settings of ``conf/data/alerts.yaml``, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rb.errors import UserError
from rb.sources.alerts.cutouts import MAX_SIDE
from rb.sources.alerts.fields import SCORES, snake
from rb.stamps import CHANNELS, STAMP_SIZE

PIXEL_SCALES: dict[str, float] = {"ztf": 1.012, "pgir": 4.36, "wirc": 0.2487, "rubin": 0.2}
"""arcsec per pixel of a survey's cutouts."""

CUTOUT_SIZES: dict[str, int] = {"ztf": 63, "pgir": 61}
"""Pixels along a side of a survey's cutouts, away from edges."""


@dataclass(frozen=True)
class WeakLabel:
    """How a survey's own score becomes a label.

    Attributes
    ----------
    score : str or None
        Column of the catalogue, None for no labels.
    real_above : float
        Scores from this on are real (label 0).
    bogus_below : float
        Scores below this are bogus (label 1); those between are unknown.
    """

    score: str | None = None
    real_above: float = 0.9
    bogus_below: float = 0.1


@dataclass(frozen=True)
class AlertSettings:
    """What to read and how; each value is explained in ``conf/data/alerts.yaml``."""

    root: Path
    cache: Path
    survey: str | None = None
    pixel_scales: dict[str, float] = field(default_factory=lambda: dict(PIXEL_SCALES))
    pixel_scale_target: float | None = None
    stamp_size: int | None = STAMP_SIZE
    cutout_sizes: dict[str, int] = field(default_factory=lambda: dict(CUTOUT_SIZES))
    edges: str = "chip"
    require: tuple[str, ...] = ("srch", "tmpl")
    max_nan: float = 1.0
    max_skipped: float = 0.5
    columns: tuple[str, ...] = ()
    label: WeakLabel = field(default_factory=WeakLabel)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AlertSettings:
        """Read the settings; keys of other concern are left alone.

        Raises
        ------
        UserError
            If one is missing or makes no sense.
        """
        for name in ("root", "cache"):
            if not _get(config, name):
                raise UserError(f"data.{name} is not set; give a path, data.{name}=FOLDER")
        label = _get(config, "label") or {}
        if not isinstance(label, Mapping):
            raise UserError("data.label has to have the keys score, real_above and bogus_below")
        target = _get(config, "pixel_scale_target")
        survey = _get(config, "survey")
        settings = cls(
            root=Path(str(_get(config, "root"))).expanduser(),
            cache=Path(str(_get(config, "cache"))).expanduser(),
            survey=None if survey is None else str(survey).lower(),
            pixel_scales=PIXEL_SCALES | _numbers(config, "pixel_scales"),
            pixel_scale_target=None if target is None else _number(target, "pixel_scale_target"),
            stamp_size=_stamp_size(config.get("stamp_size", STAMP_SIZE)),
            cutout_sizes=CUTOUT_SIZES
            | {k: int(v) for k, v in _numbers(config, "cutout_sizes").items()},
            edges=str(_get(config, "edges", "chip")),
            require=_names(config, "require", ("srch", "tmpl")),
            max_nan=_share(config, "max_nan", 1.0),
            max_skipped=_share(config, "max_skipped", 0.5),
            columns=_names(config, "columns", ()),
            label=WeakLabel(
                score=None if label.get("score") is None else str(label["score"]),
                real_above=_number(label.get("real_above", 0.9), "label.real_above"),
                bogus_below=_number(label.get("bogus_below", 0.1), "label.bogus_below"),
            ),
        )
        settings._check()
        return settings

    def ratio(self, survey: str) -> float | None:
        """Target pixel scale over that of `survey`; None if stamps stay as they are.

        Raises
        ------
        UserError
            If the scale is needed and not known.
        """
        if self.pixel_scale_target is None:
            return None
        if survey not in self.pixel_scales:
            raise UserError(
                f"the pixel scale of '{survey}' is not known, so its stamps cannot be resampled; "
                f"set +data.pixel_scales.{survey}=ARCSEC, or data.pixel_scale_target=null"
            )
        return self.pixel_scale_target / self.pixel_scales[survey]

    def parameters(self) -> dict[str, Any]:
        """All that decides what the set contains, for its description and its name."""
        values = asdict(self)
        del values["cache"]
        values["root"] = str(self.root.resolve())
        values["require"], values["columns"] = list(self.require), list(self.columns)
        return values

    def _check(self) -> None:
        if self.edges not in ("chip", "middle"):
            raise UserError(f"data.edges={self.edges} is neither 'chip' nor 'middle'")
        wrong = [c for c in self.require if c not in CHANNELS]
        if wrong:
            raise UserError(f"data.require names {wrong}; channels are {', '.join(CHANNELS)}")
        scales = [*self.pixel_scales.values(), self.pixel_scale_target or 1.0]
        if min(scales) <= 0:
            raise UserError("data.pixel_scales and data.pixel_scale_target have to be positive")
        if self.pixel_scale_target is not None and self.stamp_size is None:
            raise UserError(
                f"data.pixel_scale_target={self.pixel_scale_target} makes other pixels, so "
                f"data.stamp_size has to say how many; give a number such as {STAMP_SIZE}"
            )
        if min(self.cutout_sizes.values()) < 1:
            raise UserError("data.cutout_sizes have to be positive")
        label = self.label
        known = {*SCORES, *(snake(c) for c in self.columns)}
        if label.score is not None and snake(label.score) not in known:
            raise UserError(
                f"data.label.score={label.score} is no score ({', '.join(SCORES)}) and not "
                "among data.columns; add it there"
            )
        if label.real_above < label.bogus_below:
            raise UserError(
                f"data.label.real_above={label.real_above} is below "
                f"data.label.bogus_below={label.bogus_below}; a score would be both"
            )


def _get(config: Mapping[str, Any], name: str, default: Any = None) -> Any:
    # get of an OmegaConf mapping raises for a mandatory value that is missing ('???').
    try:
        value = config.get(name)
    except Exception as error:
        raise UserError(f"data.{name} is not set ({error})") from error
    return default if value is None or value == "???" else value


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"data.{name}={value} is not a number") from None
    if not math.isfinite(number):
        raise UserError(f"data.{name}={value} is not a finite number")
    return number


def _stamp_size(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
        raise UserError(
            f"data.stamp_size is {value}; give a number of pixels from 1 to {MAX_SIDE}, or null "
            "for cutouts as they come"
        )
    return value


def _share(config: Mapping[str, Any], name: str, default: float) -> float:
    share = _number(_get(config, name, default), name)
    if not 0 <= share <= 1:
        raise UserError(f"data.{name}={share} is a share, from 0 to 1")
    return share


def _numbers(config: Mapping[str, Any], name: str) -> dict[str, float]:
    values = _get(config, name, {})
    if not isinstance(values, Mapping):
        raise UserError(f"data.{name} has to give a number for each survey")
    return {str(k): _number(v, f"{name}.{k}") for k, v in values.items() if v is not None}


def _names(config: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    values = _get(config, name, default)
    if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
        raise UserError(f"data.{name} has to be a list")
    return tuple(str(v) for v in values)
