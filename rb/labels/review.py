"""A review: which candidates are shown, what of them, and where verdicts go."""

from __future__ import annotations

import base64
import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.files import write_whole
from rb.labels.journal import append_verdict, inspector_name, journal_path, read_journal
from rb.labels.suspects import SET_KEY, read_suspects
from rb.stamps import CHANNELS, StampSet
from rb.stamps.label_table import as_text, stamp_mark
from rb.stamps.layout import BOGUS, REAL

if TYPE_CHECKING:
    import pandas as pd

ASINH = 0.15
"""Softening of the grey scale of search and template, as in the figures."""

# What an inspector is told of a candidate, in this order, as far as the catalogue has it (upper
# or lower case). Nothing that says what it is: no scores, no truth of a simulation.
FACTS = (
    "band", "mag", "mag_err", "magpsf", "sigmapsf", "snr", "flux", "flux_err", "psf_flux",
    "psf_flux_err", "mag_ref", "nn_dist_arcsec", "dist_ref", "a_image", "b_image", "ellipticity",
    "fwhm", "seeing_srch", "seeing_tmpl", "flags", "mask_fraction", "maskfrac", "mag_limit", "ra",
    "dec", "field", "exposure", "date", "jd", "ccdid", "detector",
)  # fmt: skip
_ABOUT = "review.json"


@dataclass(frozen=True)
class Choice:
    """Which candidates of a table of suspects are shown.

    Attributes
    ----------
    top : int, optional
        Only the first so many.
    everything : bool
        Also candidates that are no suspects.
    given : int, optional
        Only those labelled 0 real or 1 bogus.
    random : int, optional
        So many drawn at random from all ranked ones, instead of the suspects: what an
        unbiased share of wrong labels needs, as in the paper's appendix D.
    seed : int
        Of the draw.
    """

    top: int | None = None
    everything: bool = False
    given: int | None = None
    random: int | None = None
    seed: int = 0

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The chosen rows, in the order in which they are shown."""
        if self.given is not None:
            table = table[table["label"] == self.given]
        if self.random is not None:
            # Order at random as well: rank would tell how suspicious one is.
            order = np.random.default_rng(self.seed).permutation(len(table))[: self.random]
            return table.iloc[order]
        if not self.everything:
            table = table[table["suspect"].astype(bool)]
        return table if self.top is None else table.head(self.top)


class Review:
    """What the page asks for.

    Parameters
    ----------
    suspects
        Table of suspects.
    folder
        Where verdicts are kept; made if need be. A folder belongs to one stamp set.
    stamps
        Folder of the stamp set; None for the one that the table names.
    choice
        Which candidates are shown.
    inspector
        Only this inspector; None to ask in the page.
    facts
        Columns of the catalogue that are shown; None for `FACTS`.

    Raises
    ------
    UserError
        If a file does not fit another, or nothing is left to show.
    """

    def __init__(
        self,
        suspects: Path,
        folder: Path,
        *,
        stamps: Path | None = None,
        choice: Choice | None = None,
        inspector: str | None = None,
        facts: list[str] | None = None,
    ) -> None:
        table = read_suspects(suspects)
        self.stamps = _stamp_set(table, suspects, stamps)
        self.inspector = None if inspector is None else inspector_name(inspector)
        self.folder = folder
        self.chosen = (choice or Choice()).of(table).reset_index(drop=True)
        if self.chosen.empty:
            raise UserError(f"{suspects}: nothing to review is left; try --all, or another --given")
        self._rows = _rows_of(self.stamps, self.chosen["id"], suspects)
        self._facts = _facts(self.stamps, facts)
        self._lock = threading.Lock()
        self._claim_folder()

    def __len__(self) -> int:
        return len(self.chosen)

    def start(self) -> dict[str, Any]:
        """What the page needs at first: the title, all ids in order, and who inspects."""
        return {
            "title": self.stamps.name,
            "ids": self.chosen["id"].tolist(),
            "inspector": self.inspector,
            "channels": list(self.stamps.channels),
            "folder": str(self.folder),
        }

    def candidate(self, number: int) -> dict[str, Any]:
        """Pixels, display limits, facts, and what is hidden at first, of candidate `number`."""
        row = self._rows[self._checked(number)]
        told = self.chosen.iloc[number]
        return {
            "id": told["id"],
            "panels": _panels(self.stamps[int(row)], self.stamps.channels),
            "facts": self._facts_of(int(row)),
            "hidden": {
                "label": _WORDS.get(int(told["label"]), "unknown"),
                "p_real": f"{float(told['p_real']):.4f}",
                "rank": int(told["rank"]),
            },
        }

    def verdicts(self, inspector: object) -> dict[str, str]:
        """Verdict by id, as far as this inspector has gone."""
        path = journal_path(self.folder, self._who(inspector))
        if not path.exists():
            return {}
        with self._lock:
            said = read_journal(path)
        return dict(zip(said["id"].tolist(), said["verdict"].tolist(), strict=True))

    def record(self, inspector: object, number: object, verdict: object, shown: object) -> None:
        """Write down what an inspector said of candidate `number`."""
        name, number = self._who(inspector), self._checked(number)
        told = self.chosen.iloc[number]
        mark = stamp_mark(self.stamps[int(self._rows[number])])
        with self._lock:
            append_verdict(
                self.folder,
                name,
                id=told["id"],
                verdict=str(verdict),
                label=int(told["label"]),
                shown=shown is True,
                stamp=mark,
            )

    def _who(self, inspector: object) -> str:
        name = inspector_name(inspector)
        if self.inspector is not None and name != self.inspector:
            raise UserError(f"this review is that of {self.inspector}, not of {name}")
        return name

    def _checked(self, number: object) -> int:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(self):
            raise UserError(f"there is no candidate {number!r:.40} in this review")
        return number

    def _facts_of(self, row: int) -> list[list[str]]:
        told = ((name, _text(self._facts[name].iloc[row])) for name in self._facts)
        return [[name, text] for name, text in told if text]

    def _claim_folder(self) -> None:
        """Verdicts of two stamp sets must not get into one folder: ids may be the same."""
        about = self.folder / _ABOUT
        mine = {"stamp_set": str(self.stamps.path.absolute()), "digest": self.stamps.stamps_digest}
        try:
            there = json.loads(about.read_text())
        except FileNotFoundError:
            write_whole(about, json.dumps(mine, indent=1).encode(), "the review")
            return
        except (OSError, ValueError) as error:
            raise UserError(f"{about}: not readable ({error}); choose another --out") from error
        if not isinstance(there, dict) or there.get("digest") != mine["digest"]:
            raise UserError(
                f"{self.folder}: holds verdicts on another stamp set; choose another --out"
            )


_WORDS = {REAL: "real", BOGUS: "bogus"}


def _stamp_set(table: pd.DataFrame, suspects: Path, given: Path | None) -> StampSet:
    path = given or table.attrs.get(SET_KEY)
    if path is None:
        raise UserError(
            f"{suspects}: does not say which stamp set it belongs to; give --set FOLDER"
        )
    stamps = StampSet.open(path)
    expected = table.attrs.get("stamps_digest")
    if expected and expected != stamps.stamps_digest:
        raise UserError(
            f"{suspects}: belongs to a stamp set with digest {expected[:12]}, {path} has "
            f"{stamps.stamps_digest[:12]}; give the right one with --set"
        )
    return stamps


def _rows_of(stamps: StampSet, ids: pd.Series, suspects: Path) -> np.ndarray:
    import pandas as pd

    rows = pd.Index(as_text(stamps.ids)).get_indexer(ids)
    if np.any(rows < 0):
        first = ids.iloc[int(np.flatnonzero(rows < 0)[0])]
        raise UserError(
            f"{suspects}: candidate {first} is not in {stamps.path}; give the set that the table "
            "was made for with --set"
        )
    return rows


def _facts(stamps: StampSet, wanted: list[str] | None) -> pd.DataFrame:
    if wanted is not None:
        return stamps.columns(wanted)
    there = {name.lower(): name for name in reversed(stamps.column_names)}
    return stamps.columns([there[name] for name in FACTS if name in there])


def _panels(stamp: np.ndarray, channels: tuple[str, ...]) -> list[dict[str, Any]]:
    """For each channel its pixels, float32 in rows from below, and how to show them."""
    from rb.figures.limits import diff_limits, grey_limits, same_sky, unmasked

    clean = unmasked(stamp)
    images = {name: clean[CHANNELS.index(name)] for name in channels}
    greys = [image for name, image in images.items() if name != "diff"]
    together = grey_limits(np.stack(greys)) if greys and same_sky(greys) else None
    panels = []
    for name, image in images.items():
        low, high = diff_limits(image) if name == "diff" else together or grey_limits(image)
        panels.append(
            {
                "channel": name,
                "low": low,
                "high": high,
                "asinh": None if name == "diff" else ASINH,
                "size": image.shape[0],
                "pixels": base64.b64encode(image.astype("<f4").tobytes()).decode(),
            }
        )
    return panels


def _text(value: object) -> str:
    """A catalogue value for reading; empty where there is none."""
    import pandas as pd

    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    return str(value)[:80]
