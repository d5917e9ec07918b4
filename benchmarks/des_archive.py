"""Write an archive in the layout of the DES autoscan download, of any size, quirks included.

    python benchmarks/des_archive.py FOLDER --candidates 100000 --damage 0.001

Folders, names and the table are those of the download: shards with different roots, the
last one flat, GIFs beside the FITS files, members of a triplet in no particular order and
sometimes in another shard, IDs that grow but not by one. Pixels follow from ID and panel,
so that whoever reads the archive can tell whether it got the right ones (`pixels`).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PANELS = ("diff", "srch", "temp")
ROOTS = ("home2/SNWG/Archive/2013/Y1", "stamps{shard}/SNWG/Archive/2013/Y1",
         "./project/projectdirs/dessn/autoscan/stamps/SNWG/Archive/2013/Y1")  # fmt: skip
DAMAGE = ("missing", "cut", "shape", "not_fits", "conflict")  # what costs a candidate
HARMLESS = ("nan", "twice", "scaled", "double", "no_row")  # what does not
_GIF = b"GIF89a" + bytes(1500)
# fmt: off
FEATURES = (
    "AMP", "A_IMAGE", "A_REF", "BAND", "B_IMAGE", "B_REF", "CCDID", "COLMEDS", "DIFFSUMRN",
    "ELLIPTICITY", "FLAGS", "FLUX_RATIO", "GAUSS", "GFLUX", "L1", "LACOSMIC", "MAG", "MAGDIFF",
    "MAGLIM", "MAG_FROM_LIMIT", "MAG_REF", "MAG_REF_ERR", "MASKFRAC",
    "MIN_DISTANCE_TO_EDGE_IN_NEW", "N2SIG3", "N2SIG3SHIFT", "N2SIG5", "N2SIG5SHIFT", "N3SIG3",
    "N3SIG3SHIFT", "N3SIG5", "N3SIG5SHIFT", "NN_DIST_RENORM", "NUMNEGRN", "SCALE", "SNR",
    "SPREADERR_MODEL", "SPREAD_MODEL",
)
# fmt: on
_BASE = np.random.default_rng(51).normal(100, 40, (97, 51, 51)).astype(np.float32)


def pixels(number: int, panel: int) -> np.ndarray:
    """Pixels of a candidate's panel (0 diff, 1 srch, 2 temp), (51, 51) float32."""
    return _BASE[(3 * number + panel) % len(_BASE)] + np.float32(number % 4099)


def fits_file(image: np.ndarray, scaled: bool = False, name: str = "") -> bytes:
    """A FITS file as the survey wrote them: one image, some thirty cards."""
    bitpix = {"f4": -32, "f8": -64, "i2": 16, "i4": 32, "u1": 8}[image.dtype.str[1:]]
    cards = [
        f"{'SIMPLE':8}= {'T':>20} / conforms to FITS standard",
        f"{'BITPIX':8}= {bitpix:>20} / array data type",
        f"{'NAXIS':8}= {image.ndim:>20} / number of array dimensions",
        *(f"{f'NAXIS{i + 1}':8}= {n:>20}" for i, n in enumerate(image.shape[::-1])),
    ]
    if scaled:
        cards += [f"{'BSCALE':8}= {'0.5':>20}", f"{'BZERO':8}= {'1000.0':>20}"]
    cards += [
        f"{'OBJECT':8}= {name!r:20}",
        *(f"HISTORY step {i} of the pipeline" for i in range(20)),
    ]
    header = "".join(card.ljust(80) for card in [*cards, "END"])
    header = header.ljust(-(-len(header) // 2880) * 2880)
    data = image.astype(image.dtype.newbyteorder(">")).tobytes()
    return header.encode("ascii") + data + bytes(-len(data) % 2880)


@dataclass
class Truth:
    """What was written, for whoever has to find it."""

    ids: list[int]  # all, in order
    labels: dict[int, int]
    exposure: dict[int, str]  # empty in the flat shard
    damage: dict[int, str] = field(default_factory=dict)  # one of DAMAGE or HARMLESS

    @property
    def good(self) -> list[int]:
        """IDs that a build has to keep."""
        return [i for i in self.ids if self.damage.get(i) not in DAMAGE]


def expected(truth: Truth, number: int, panel: int) -> np.ndarray:
    """Pixels that a build has to find, with what the harmless kinds do to them."""
    image = pixels(number, panel)
    kind = truth.damage.get(number)
    if kind == "nan" and panel == 1:
        image = image.copy()
        image[3:5, 7] = np.nan
    if kind == "scaled":
        return (np.round((image - 1000) / 0.5).astype(">i2") * 0.5 + 1000).astype(np.float32)
    return image


def write_archive(
    folder: Path,
    n: int,
    *,
    shards: int = 3,
    packing: tuple[str, ...] = ("tar",),
    damage: float = 0.0,
    gifs: bool = True,
    seed: int = 0,
) -> Truth:
    """Write shards and table into `folder`.

    Parameters
    ----------
    folder : Path
        Created if need be.
    n : int
        Candidates; three FITS files each.
    shards : int
        Number of shards, the last of them flat.
    packing : tuple of str
        How the shards are packed, in turn: tar, tar.gz, tree (unpacked).
    damage : float
        Share of candidates with each kind of damage.
    gifs : bool
        Write the GIFs too.
    seed : int
        For IDs, labels and damage.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ids = (6_900_000 + np.cumsum(rng.integers(1, 6, n))).tolist()
    truth = Truth(ids, dict(zip(ids, rng.integers(0, 2, n).tolist(), strict=True)), {})
    kinds = DAMAGE + HARMLESS
    count = max(1, round(damage * n)) if damage else 0
    chosen = rng.choice(n, count * len(kinds), replace=False).reshape(len(kinds), count)
    for kind, places in zip(kinds, chosen, strict=True):
        truth.damage |= {ids[i]: kind for i in places.tolist()}
    parts = np.array_split(np.arange(n), shards)
    stray: list[tuple[str, bytes]] = []  # members that lie in the next shard
    for shard, part in enumerate(parts):
        members = _members(truth, ids, part.tolist(), shard, shard == shards - 1 and shards > 1,
                           gifs, rng)  # fmt: skip
        kind = packing[shard % len(packing)]
        with _Sink(folder, shard, kind) as sink:
            for name, data in stray:
                sink.add(name, data)
            stray = []
            for name, data in members:
                # One file in two thousand strays into the next shard.
                if shard < shards - 1 and data is not _GIF and rng.random() < 5e-4:
                    stray.append((name, data))
                else:
                    sink.add(name, data)
    _write_table(folder / "autoscan_features.3.csv", truth, rng)
    return truth


def _members(
    truth: Truth, ids: list[int], part: list[int], shard: int, flat: bool, gifs: bool,
    rng: np.random.Generator,
) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    root = ROOTS[shard % len(ROOTS)].format(shard=shard)
    for start in range(0, len(part), 200):  # candidates of an exposure
        numbers = [ids[i] for i in part[start : start + 200]]
        night = 20130829 + (shard * 7 + start // 4000) % 2
        exposure = 470_000_000 + shard * 1_000_000 + start
        where = "" if flat else f"{root}/{night}/{exposure}/"
        truth.exposure |= {number: "" if flat else str(exposure) for number in numbers}
        files = [(number, panel) for number in numbers for panel in range(3)]
        for k in rng.permutation(len(files)).tolist():
            number, panel = files[k]
            stem = f"{where}{PANELS[panel]}{number}"
            yield from ((f"{stem}.fits", data) for data in _files(truth, number, panel))
            if gifs:
                yield f"{stem}.gif", _GIF


def _files(truth: Truth, number: int, panel: int) -> list[bytes]:
    """The FITS files of a candidate's panel: one, unless something is odd about it."""
    kind = truth.damage.get(number)
    image = expected(truth, number, panel)
    name = f"{PANELS[panel]}{number}"
    if kind == "scaled":
        return [fits_file(np.round((image - 1000) / 0.5).astype(np.int16), scaled=True, name=name)]
    if kind == "double":
        return [fits_file(image.astype(np.float64), name=name)]
    data = fits_file(image, name=name)
    if kind == "missing" and panel == 2:
        return []
    if kind == "cut" and panel == 0:
        return [data[:9000]]
    if kind == "shape" and panel == 1:
        return [fits_file(image[:, :49], name=name)]
    if kind == "not_fits" and panel == 2:
        return [b"<html>404 not found</html>"]
    if kind == "twice" and panel == 0:
        return [data, fits_file(image, name="again")]
    if kind == "conflict" and panel == 1:
        return [data, fits_file(image + 1, name=name)]
    return [data]


class _Sink:
    """Writes members into a tar or a tree, without keeping anything of them."""

    def __init__(self, folder: Path, shard: int, kind: str) -> None:
        self._tree = folder / f"unpacked_{shard}" if kind == "tree" else None
        self._path = folder / f"stamps_{shard}.{kind}"
        self._kind = kind

    def __enter__(self) -> _Sink:
        if self._tree is None:
            raw = self._path.open("wb", buffering=2**22)
            self._raw = raw
            self._file = gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) \
                if self._kind == "tar.gz" else raw  # fmt: skip
        return self

    def add(self, name: str, data: bytes) -> None:
        if self._tree is not None:
            path = self._tree / name
            if path.exists():  # a tree cannot hold a name twice, another folder can
                path = self._tree / "copy" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._file.write(info.tobuf(tarfile.GNU_FORMAT))
        self._file.write(data)
        self._file.write(bytes(-len(data) % 512))

    def __exit__(self, *_: object) -> None:
        if self._tree is None:
            self._file.write(bytes(10240))
            if self._file is not self._raw:
                self._file.close()
            self._raw.close()


def _write_table(path: Path, truth: Truth, rng: np.random.Generator) -> None:
    text = io.StringIO()
    for k in range(6):
        text.write(f"# comment line {k}\n")
    text.write("ID,OBJECT_TYPE," + ",".join(FEATURES) + "\n")
    # As in the download, real candidates come first.
    for number in sorted(truth.ids, key=lambda i: (truth.labels[i], i)):
        if truth.damage.get(number) == "no_row":
            continue
        values = [f"{v:.15g}" for v in (20 + rng.random(len(FEATURES))).tolist()]
        values[FEATURES.index("BAND")] = "griz"[number % 4]
        values[FEATURES.index("MAG")] = f"{20 + number % 50 / 10}"
        if number % 16 == 0:
            values[FEATURES.index("MAG_REF")] = "nan"
        text.write(f"{number},{truth.labels[number]}," + ",".join(values) + "\n")
    path.write_text(text.getvalue())


def main() -> int:
    """Write an archive as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--candidates", type=int, default=10_000, help="three FITS files each")
    parser.add_argument("--shards", type=int, default=11)
    parser.add_argument("--packing", default="tar", help="tar, tar.gz, tree; several in turn: a,b")
    parser.add_argument("--damage", type=float, default=0.0, help="share of each kind of damage")
    parser.add_argument("--no-gifs", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    truth = write_archive(
        told.folder,
        told.candidates,
        shards=told.shards,
        packing=tuple(told.packing.split(",")),
        damage=told.damage,
        gifs=not told.no_gifs,
        seed=told.seed,
    )
    (told.folder / "truth.json").write_text(json.dumps({"damage": truth.damage}))
    print(
        f"{3 * told.candidates:,} FITS files in {told.folder}, {len(truth.good):,} good candidates"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
