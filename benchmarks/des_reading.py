"""Ways to read DES stamps, side by side on the same files: files per second on one core.

    python benchmarks/des_reading.py [--candidates 2000]

Writes an archive (see `des_archive.py`), reads it with each method, checks that all agree
with astropy to the last bit, and prints files per second of CPU and of wall time. The files
are in the page cache: they were just written.
"""

from __future__ import annotations

import argparse
import io
import mmap
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.des_archive import PANELS, Truth, write_archive
from rb.io.fits import StampParser
from rb.sources.des.archive import index_tar
from rb.sources.des.file import StampFile
from rb.sources.des.plan import Plan, Shard
from rb.sources.des.read import read_unit
from rb.stamps import STAMP_SIZE

Found = Iterator[tuple[str, np.ndarray]]


def with_astropy(root: Path) -> Found:
    from astropy.io import fits

    for path in root.rglob("*.fits"):
        with fits.open(path, memmap=False) as hdus:
            yield path.stem, np.asarray(hdus[0].data, np.float32)


def with_fitsio(root: Path) -> Found:
    import fitsio

    for path in root.rglob("*.fits"):
        yield path.stem, np.asarray(fitsio.read(str(path)), np.float32)


def from_files(root: Path) -> Found:
    parser = StampParser(STAMP_SIZE)
    for path in root.rglob("*.fits"):
        yield path.stem, parser.read(path.read_bytes()).astype(np.float32)


def with_tarfile_and_astropy(tars: Path) -> Found:
    from astropy.io import fits

    for path in sorted(tars.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".fits"):
                    file = tar.extractfile(member)
                    assert file is not None
                    with fits.open(io.BytesIO(file.read()), memmap=False) as hdus:
                        yield Path(member.name).stem, np.asarray(hdus[0].data, np.float32)


def from_mapped_tars(tars: Path) -> Found:
    parser = StampParser(STAMP_SIZE)
    for path in sorted(tars.glob("*.tar")):
        index = index_tar(path)
        names = [f"{PANELS[c]}{i}" for c, i in zip(index.channels, index.ids, strict=True)]
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
            spans = zip(names, index.offsets.tolist(), index.sizes.tolist(), strict=True)
            for name, offset, size in spans:
                yield name, parser.read(tar[offset : offset + size]).astype(np.float32)


def into_stamps_file(tars: Path) -> Found:
    """What a build does with one process: index, plan, read, check for NaN, write, sync."""
    shards = [Shard(p.name, str(p), index_tar(p)) for p in sorted(tars.glob("*.tar"))]
    plan = Plan(shards, [0, 1, 2])
    with tempfile.TemporaryDirectory(dir=tars.parent) as work:
        stamps = StampFile.allocate(Path(work) / "stamps.npy", len(plan.ids))
        for number in range(plan.n_units):
            read_unit(plan.unit(number), str(stamps.path), stamps.header)
        array = np.load(stamps.path, mmap_mode="r")
        for row, number in enumerate(plan.ids.tolist()):
            for channel, panel in enumerate(PANELS):
                yield f"{panel}{number}", array[row, channel]


METHODS: list[tuple[str, Callable[[Path], Found], bool]] = [
    ("astropy, files", with_astropy, False),
    ("fitsio, files", with_fitsio, False),
    ("rb, files", from_files, False),
    ("tarfile and astropy", with_tarfile_and_astropy, True),
    ("rb, tar memory-mapped", from_mapped_tars, True),
    ("rb, tar to stamps.npy", into_stamps_file, True),
]


def compare(folder: Path, n: int) -> int:
    """Print the table; the exit code says whether all methods agree."""
    write_archive(folder / "tars", n, shards=2)
    truth: Truth = write_archive(folder / "tree", n, shards=2, packing=("tree",))
    expected: dict[str, np.ndarray] = {}
    agree = True
    print(f"{'method':24}{'files/s (CPU)':>15}{'files/s (wall)':>16}{'  values':10}")
    for name, method, tars in METHODS:
        try:
            cpu, wall = time.process_time(), time.perf_counter()
            found = dict(method(folder / ("tars" if tars else "tree")))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        except ImportError as error:
            print(f"{name:24}{'not installed':>15} ({error.name})")
            continue
        expected = expected or found
        same = found.keys() == expected.keys() and all(
            np.array_equal(found[key], expected[key]) for key in expected
        )
        agree &= same and len(found) == 3 * len(truth.ids)
        says = "equal" if same else "DIFFER"
        print(f"{name:24}{len(found) / cpu:>15,.0f}{len(found) / wall:>16,.0f}  {says}")
    return 0 if agree else 1


def main() -> int:
    """Compare as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=2000, help="three files each (2000)")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        return compare(Path(folder), told.candidates)


if __name__ == "__main__":
    sys.exit(main())
