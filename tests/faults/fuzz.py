"""Broken files into every reader: each answers, or says in one line what is wrong.

    make fuzz
    python tests/faults/fuzz.py --seconds 600 --corpus FOLDER

Small valid files are cut, filled, repeated and have bits flipped. A reader may give what it reads
or raise UserError; anything else is a finding, and so is an answer that takes long or much memory.
What gave a finding is kept in the corpus, and tried first the next time.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "helpers")]

import numpy as np  # noqa: E402

_LONG_S = 10.0
_MEMORY = 6 << 30
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)

Reader = Callable[[Path], object]


def seeds(folder: Path) -> dict[str, list[Path]]:
    """Valid files by reader."""
    import pandas as pd
    from alert_makers import ZTF_SCHEMA, container, fits_bytes, image, ztf, ztf_file
    from des_files import archive, write_table
    from exported import exported
    from toys import toy_stamps, write_set

    found: dict[str, list[Path]] = collections.defaultdict(list)

    def add(reader: str, name: str, content: bytes) -> None:
        file = folder / name
        file.write_bytes(content)
        found[reader].append(file)

    add("alerts", "one.avro", ztf_file(1))
    add("alerts", "two.avro", container([ztf(1), ztf(2)], ZTF_SCHEMA))
    add("cutout", "cutout.fits.gz", fits_bytes(image()))
    add("cutout", "cutout.fits", fits_bytes(image(), compress=False))
    records = pd.DataFrame([ztf(3), ztf(4)])
    records.to_parquet(folder / "alerts.parquet")
    found["alerts"].append(folder / "alerts.parquet")
    archive.write_archive(folder / "tars", 4, shards=1)
    found["tar"] += sorted((folder / "tars").glob("*.tar"))
    write_table(folder, {1: 0, 2: 1, 3: 1})
    found["features"].append(folder / "autoscan_features.3.csv")
    for file in exported():
        found["checkpoint" if file.suffix == ".ckpt" else "exported"].append(file)
    write_set(folder / "set", 8)
    for file in sorted((folder / "set").iterdir()):
        found["set"].append(file)
    stamps, _ = toy_stamps(3)
    np.save(folder / "stack.npy", stamps)
    found["stack"].append(folder / "stack.npy")
    pd.DataFrame({"id": ["1", "2"], "label": [0, 1]}).to_csv(folder / "labels.csv", index=False)
    found["labels"].append(folder / "labels.csv")
    pd.DataFrame({"id": [1, 2], "label": [0, 1]}).to_parquet(folder / "labels.parquet")
    found["labels"].append(folder / "labels.parquet")
    from astropy.io import fits
    from dense import write_pair

    pair = write_pair(folder / "frame")
    pixels, header = fits.getdata(pair[0], header=True)
    units = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels[:96, :96], header)])
    units.writeto(folder / "frame.fits.fz")
    fits.PrimaryHDU(pixels[:96, :96], header).writeto(folder / "frame.fits")
    found["image"] += [folder / "frame.fits.fz", folder / "frame.fits"]
    for file in pair[:2]:
        found["pair"].append(file.rename(folder / f"pair_{file.name}"))
    fits.PrimaryHDU(np.outer(*[np.hanning(11)] * 2)).writeto(folder / "psf.fits")
    found["psf"].append(folder / "psf.fits")
    add("list", "pairs.csv", f"search,template\n{pair[0]},{pair[1]}\n".encode())
    from rb.uncertainty.strangeness import Reference

    x = np.random.default_rng(0).normal(size=(60, 4))
    Reference.of(x, np.arange(60) % 2, np.full(60, ""), {}).save(folder / "reference.npz")
    found["reference"].append(folder / "reference.npz")
    return found


def readers() -> dict[str, Reader]:
    """What reads a file of each kind, as commands do."""
    from rb.features.table import read_table as read_features
    from rb.models.checkpoint import load_checkpoint
    from rb.scan.images import read_image, read_pair, read_psf
    from rb.scan.jobs import jobs_of
    from rb.scoring.candidates import ArraySource
    from rb.scoring.exported import load_exported
    from rb.sources.alerts.cutouts import CutoutError, decode_cutout
    from rb.sources.alerts.packets import Packet, PacketFileError, read_message, read_packets
    from rb.sources.des.archive import index_tar
    from rb.stamps.inputs import InputSpec
    from rb.stamps.label_table import read_table
    from rb.stamps.stampset import StampSet
    from rb.uncertainty.strangeness import Reference

    def alerts(file: Path) -> object:
        try:
            packets = [*read_packets(file, None)]
        except PacketFileError:
            packets = []
        packets += read_message(file.read_bytes(), None)
        for packet in packets:
            if isinstance(packet, Packet):
                for data in packet.cutouts.values():
                    cutout_of(data)
        return packets

    def cutout_of(data: object) -> None:
        with suppress(CutoutError):
            decode_cutout(data)  # type: ignore[arg-type]

    def stack(file: Path) -> object:
        source = ArraySource(file, InputSpec())
        return [len(chunk) for chunk in source.chunks(None, file.parent)]

    def stamp_set(file: Path) -> object:
        found = StampSet.open(file.parent)
        return found.labels, found.groups, found[:], str(found)

    def pair(file: Path) -> object:
        whole = next(file.parent.glob("pair_*_template.fits"))
        places = str(file), str(whole)
        return read_pair(*(places[::-1] if "template" in file.name else places))

    return {
        "alerts": alerts,
        "cutout": lambda file: cutout_of(file.read_bytes()),
        "tar": index_tar,
        "features": read_features,
        "checkpoint": load_checkpoint,
        "exported": load_exported,
        "stack": stack,
        "labels": lambda file: read_table(file, "data.labels"),
        "reference": Reference.load,
        "image": lambda file: read_image(str(file)),
        "pair": pair,
        "psf": lambda file: read_psf(str(file)),
        "list": lambda file: jobs_of(str(file), None, file.parent / "finds"),
        "set": stamp_set,
    }


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with one to four things done to it."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at, n = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + n] = bytes(rng.choice(_INTERESTING) for _ in range(n))
        elif kind == 2:
            data[at : at + n] = rng.randbytes(n)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + n]
        elif kind == 5:
            data[at:at] = data[at : at + n] * rng.choice((1, 2, 50))
        else:  # headers and directories lie at both ends
            at = rng.choice(
                (rng.randrange(min(400, len(data))), -rng.randint(1, min(400, len(data))))
            )
            data[at] = rng.choice((data[at] ^ (1 << rng.randrange(8)), *_INTERESTING))
    return bytes(data)


@contextmanager
def bounded() -> Iterator[None]:
    """A process that cannot take all memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY + _held(), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _held() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def trial(reader: Reader, file: Path) -> str | None:
    """What is wrong with the answer of a reader; None if it is as it should be."""
    from rb.errors import UserError

    started = time.monotonic()
    try:
        reader(file)
    except UserError as error:
        if "\n" in str(error).strip():
            return f"several lines: {str(error)[:100]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    spent = time.monotonic() - started
    return f"took {spent:.0f} s" if spent > _LONG_S else None


def fuzz(seconds: float, seed: int, corpus: Path | None, only: str | None = None) -> list[str]:
    """Try broken files until time is up; prints a line a reader, gives the findings."""
    rng = random.Random(seed)
    tried: collections.Counter[str] = collections.Counter()
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place, bounded():
        folder = Path(place)
        kept, known = seeds(folder), readers()
        names = [name for name in kept if only in (None, name)]
        cases: list[tuple[str, Path, bytes]] = []
        for file in sorted(corpus.glob("*/*")) if corpus else []:
            if file.parent.name in names:
                cases.append((file.parent.name, kept[file.parent.name][0], file.read_bytes()))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if cases:
                name, origin, content = cases.pop()
            else:
                name = rng.choice(names)
                origin = rng.choice(kept[name])
                content = mutated(origin.read_bytes(), rng)
            file = origin.with_name(f"broken-{os.getpid()}-{origin.stem}{origin.suffix}")
            whole = origin.read_bytes()
            if name == "set":  # in its place, among the files that are whole
                file = origin
            file.write_bytes(content)
            try:
                wrong = trial(known[name], file)
            finally:
                if name == "set":
                    file.write_bytes(whole)
            tried[name] += 1
            if wrong is not None and f"{name}: {wrong}" not in found:
                found[f"{name}: {wrong}"] = origin.name
                if corpus:
                    (corpus / name).mkdir(parents=True, exist_ok=True)
                    digest = hashlib.sha256(content).hexdigest()[:12]
                    (corpus / name / f"{digest}{origin.suffix}").write_bytes(content)
    for name in names:
        own = sum(key.startswith(f"{name}:") for key in found)
        print(f"{name}: {tried[name]:,} files, {own} findings")
    return [f"{what} ({origin})" for what, origin in found.items()]


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--corpus", type=Path, help="where findings are kept")
    parser.add_argument("--only", help="one reader")
    told = parser.parse_args()
    findings = fuzz(told.seconds, told.seed, told.corpus, told.only)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
