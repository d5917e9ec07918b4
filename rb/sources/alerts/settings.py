"""The settings of ``conf/data/alerts.yaml``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from rb.errors import UserError
from rb.settings import (
    Choice,
    Entries,
    Items,
    Number,
    OrNull,
    Place,
    Share,
    Text,
    Whole,
    read,
    refuse,
)
from rb.sources.alerts.cutouts import MAX_SIDE
from rb.sources.alerts.fields import SCORES, snake
from rb.stamps import CHANNELS, STAMP_SIZE
from rb.stamps.layout import OPTIONAL

PIXEL_SCALES: dict[str, float] = {"ztf": 1.012, "pgir": 4.36, "wirc": 0.2487, "rubin": 0.2}
"""arcsec per pixel of a survey's cutouts."""

PSF_SIZE = 41
"""Pixels along a side of PSF images, if nothing else is wanted."""

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
    flags : bool
        Sources that the survey's flags call bogus are bogus, injected ones real.
    """

    score: Annotated[str | None, OrNull(Text())] = None
    real_above: Annotated[float, Number()] = 0.9
    bogus_below: Annotated[float, Number()] = 0.1
    flags: Annotated[bool, Choice((True, False))] = False


@dataclass(frozen=True)
class AlertSettings:
    """What to read and how; each value is explained in ``conf/data/alerts.yaml``."""

    root: Annotated[Path, Place()]
    cache: Annotated[Path, Place()]
    schemas: Annotated[Path | None, OrNull(Place())] = None
    survey: Annotated[str | None, OrNull(Text())] = None
    pixel_scales: Annotated[dict[str, float], Entries(Number(above=0))] = field(
        default_factory=lambda: dict(PIXEL_SCALES)
    )
    pixel_scale_target: Annotated[float | None, OrNull(Number(above=0))] = None
    stamp_size: Annotated[int | None, OrNull(Whole(1, MAX_SIDE))] = STAMP_SIZE
    cutout_sizes: Annotated[dict[str, int], Entries(Whole(1))] = field(
        default_factory=lambda: dict(CUTOUT_SIZES)
    )
    edges: Annotated[str, Choice(("chip", "middle"))] = "chip"
    header_places: Annotated[tuple[str, ...], Items(Text())] = ("rubin",)
    sign: Annotated[str, Choice(("as_sent", "difference", "positive"))] = "as_sent"
    planes: Annotated[tuple[str, ...], Items(Choice(OPTIONAL))] = OPTIONAL
    psf_size: Annotated[int, Whole(1, MAX_SIDE, odd=True)] = PSF_SIZE
    require: Annotated[tuple[str, ...], Items(Choice(CHANNELS))] = ("srch", "tmpl")
    max_nan: Share = 1.0
    max_skipped: Share = 0.5
    columns: Annotated[tuple[str, ...], Items(Text())] = ()
    label: WeakLabel = field(default_factory=WeakLabel)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AlertSettings:
        """Read the settings.

        Raises
        ------
        UserError
            If one is unknown, missing or makes no sense.
        """
        settings = read(
            cls, {k: v for k, v in config.items() if k not in ("name", "labels")}, "data"
        )
        return replace(
            settings,
            survey=settings.survey and settings.survey.lower(),
            pixel_scales=PIXEL_SCALES | settings.pixel_scales,
            cutout_sizes=CUTOUT_SIZES | settings.cutout_sizes,
        )

    def __post_init__(self) -> None:
        if self.pixel_scale_target is not None and self.stamp_size is None:
            refuse(
                "data.stamp_size",
                None,
                f"a number such as {STAMP_SIZE}: data.pixel_scale_target makes other pixels",
            )
        label = self.label
        known = {*SCORES, *(snake(c) for c in self.columns)}
        if label.score is not None and snake(label.score) not in known:
            refuse(
                "data.label.score",
                label.score,
                f"one of {', '.join(SCORES)}, or of those in data.columns",
            )
        if label.real_above < label.bogus_below:
            refuse(
                "data.label.real_above",
                label.real_above,
                f"at least data.label.bogus_below={label.bogus_below}, or a score would be both",
            )

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
        values["schemas"] = self.schemas and str(self.schemas.resolve())
        for name in ("require", "columns", "header_places", "planes"):
            values[name] = list(values[name])
        return values
