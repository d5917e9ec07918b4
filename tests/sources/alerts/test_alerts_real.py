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
from rb.sources.alerts.source import open_stamps
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
    assert stamps.catalogue["survey"].value_counts().to_dict() == {
        "ztf": 122,
        "rubin": 15,
        "pgir": 7,
    }


@pytest.mark.parametrize("survey", ["ztf", "pgir", "fink"])
def test_damaged_copies_beside_a_good_file(shared_data: Path, tmp_path: Path, survey: str) -> None:
    """Whatever happens to one file, the candidates of the other are there, and it is told."""
    files = sorted((shared_data / "alerts" / survey).iterdir())
    rng = np.random.default_rng(5)
    root = tmp_path / "night"
    good = write(root, "0", files[0].read_bytes())
    expected = set(read(good, tmp_path / "cache").ids)
    skipped = 0
    for i in range(4 if survey == "fink" else 40):
        write(root, "1", damage(files[1 + i % (len(files) - 1)].read_bytes(), rng))
        begin = time.process_time()
        try:
            stamps = read(root, tmp_path / f"cache{i}", max_skipped=1.0)
        except UserError as error:
            # The name of the schema was hit.
            assert "several surveys" in str(error) and "\n" not in str(error)
            continue
        assert time.process_time() - begin < 20
        assert expected <= set(stamps.ids)
        table = stamps.table("skipped")
        assert set(table["file"]) <= {"1"}
        skipped += len(table)
        stamps.verify()
    assert skipped
