"""The alert source on real packets of ZTF, Fink and Palomar Gattini-IR."""

from __future__ import annotations

import gzip
import io
import time
from pathlib import Path

import fastavro
import numpy as np
import pyarrow.parquet as pq
import pytest
from alert_makers import damage, write
from astropy.io import fits

from rb.errors import UserError
from rb.sources.alerts import open_stamps
from rb.stamps import StampSet

KEYS = ("cutoutDifference", "cutoutScience", "cutoutTemplate")


def read(root: Path, cache: Path, **settings: object) -> StampSet:
    return open_stamps({"root": str(root), "cache": str(cache), **settings}, progress=False)


def pixels(cutout: bytes | dict[str, bytes]) -> np.ndarray:
    data = cutout["stampData"] if isinstance(cutout, dict) else cutout
    return fits.getdata(io.BytesIO(gzip.decompress(data)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("survey", "n", "size"), [("ztf", 14, 63), ("pgir", 7, 61)])
def test_avro_packets(shared_data: Path, tmp_path: Path, survey: str, n: int, size: int) -> None:
    folder = shared_data / "alerts" / survey
    stamps = read(folder, tmp_path)
    assert len(stamps) == n and len(stamps.table("skipped")) == 0
    assert stamps.meta["survey"] == survey
    by_id = stamps.catalogue.set_index("id")
    edge = (size - 51) // 2
    for path in folder.iterdir():
        with path.open("rb") as file:
            (record,) = fastavro.reader(file)
        row = by_id.loc[record["candid"]]
        # ZTF had no drb before 2019.
        assert row["rb"] == pytest.approx(record["candidate"].get("rb", np.nan), nan_ok=True)
        assert row["drb"] == pytest.approx(record["candidate"].get("drb", np.nan), nan_ok=True)
        assert row["mag"] == record["candidate"]["magpsf"]
        assert row["group"] == record["objectId"]
        index = int(np.flatnonzero(stamps.ids == record["candid"])[0])
        for channel, name in enumerate(KEYS):
            expected = pixels(record[name])[edge : edge + 51, edge : edge + 51]
            np.testing.assert_array_equal(stamps.stamps[index, channel], expected)


@pytest.mark.filterwarnings("ignore")
def test_fink_packets_with_nan_pixels(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "alerts" / "fink"
    stamps = read(folder, tmp_path)
    assert len(stamps) == 108 and len(stamps.table("skipped")) == 0
    assert stamps.catalogue["drb"].between(0, 1).all()
    assert stamps.meta["n_nan_stamps"] == 14
    total = 0
    for path in sorted(folder.iterdir()):
        for record in pq.read_table(path, columns=["candid", *KEYS]).to_pylist():
            index = int(np.flatnonzero(stamps.ids == record["candid"])[0])
            for channel, name in enumerate(KEYS):
                expected = pixels(record[name])[6:57, 6:57]
                np.testing.assert_array_equal(stamps.stamps[index, channel], expected)
                total += int(np.isnan(expected).sum())
    assert total == stamps.meta["n_nan_pixels"] == stamps.catalogue["n_nan"].sum()


def test_all_folders_at_once_have_to_be_asked_for(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="several surveys"):
        read(shared_data / "alerts", tmp_path)
    stamps = read(shared_data / "alerts", tmp_path, survey="any")
    assert stamps.catalogue["survey"].value_counts().to_dict() == {"ztf": 122, "pgir": 7}


@pytest.mark.parametrize("survey", ["ztf", "pgir", "fink"])
def test_damaged_copies(shared_data: Path, tmp_path: Path, survey: str) -> None:
    """Each file, changed in many ways: candidates, a counted skip, or one clear line."""
    files = sorted((shared_data / "alerts" / survey).iterdir())
    rng = np.random.default_rng(5)
    tries = 6 if survey == "fink" else 40
    kept = refused = 0
    for i in range(tries):
        root = tmp_path / str(i)
        write(root, "packet", damage(files[i % len(files)].read_bytes(), rng))
        begin = time.process_time()
        try:
            kept += len(read(root, tmp_path / "cache", max_skipped=1.0))
        except UserError as error:
            assert "\n" not in str(error) and "no usable alert packet" in str(error)
            refused += 1
        assert time.process_time() - begin < 20
    # A Parquet file that has changed in length has lost all it knows of itself.
    assert kept or survey == "fink"
    assert refused < tries or survey == "fink"
