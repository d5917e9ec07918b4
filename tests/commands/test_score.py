"""`rb score`: one row a candidate in, whatever it looks like and however the job ended before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alert_makers import ZTF_SCHEMA, container, fits_bytes, image, triplet, write, ztf, ztf_file
from des_files import archive
from exported import exported
from toys import toy_stamps, write_set

import rb
from rb.cli import main
from rb.scoring import job as jobs
from rb.scoring.job import made_by


def score(data: Path, out: Path, *more: str, model: Path | None = None) -> pd.DataFrame:
    words = ["score", str(data), "--model", str(model or exported()[1]), "--out", str(out)]
    assert main([*words, "--quiet", *more]) == 0
    return pd.read_csv(out) if out.suffix == ".csv" else pd.read_parquet(out)


def refused(capsys, *words: str) -> str:
    assert main(["score", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_a_stamp_set(tmp_path, capsys):
    found = write_set(tmp_path / "set", 70, absent={3: 0, 5: 1})
    table = score(tmp_path / "set", tmp_path / "scores.parquet", "--batch", "16")
    assert "70 candidates" in capsys.readouterr().out
    model = rb.load(exported()[1])
    np.testing.assert_array_equal(table["id"], found.ids)
    np.testing.assert_allclose(table["p_real"], model.score(found), atol=1e-6)
    assert ((table["decision"] == "real") == (table["p_real"] >= 0.5)).all()
    tags = dict(zip(table["id"], table["tags"], strict=True))
    assert tags.pop(1003) == "lacks_diff" and tags.pop(1005) == "lacks_srch"
    assert set(tags.values()) == {""}
    about = made_by(tmp_path / "scores.parquet")
    assert about["data_digest"] == found.stamps_digest
    assert about["model_digest"] == model.digest and set(table["model"]) == {model.digest[:16]}
    assert about["threshold"] == 0.5 and about["code_version"] == rb.__version__
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.parquet", "set"]


def test_checkpoint_and_exported_file_say_the_same(tmp_path):
    write_set(tmp_path / "set", 40)
    one = score(tmp_path / "set", tmp_path / "one.parquet", "--embeddings")
    two = score(tmp_path / "set", tmp_path / "two.parquet", "--embeddings", model=exported()[0])
    np.testing.assert_allclose(one["p_real"], two["p_real"], atol=1e-5)
    np.testing.assert_allclose(
        np.stack(one["embedding"]), np.stack(two["embedding"]), rtol=1e-4, atol=1e-4
    )


def test_a_stack_and_its_tags(tmp_path):
    stamps, _ = toy_stamps(9)
    stamps[1] = np.nan
    stamps[2, 0] = np.nan
    stamps[3, 1, :20] = np.nan
    stamps[4, 2, 20:24, 20:24] = np.inf
    stamps[5, 1] = 7.0
    stamps[6, 2, :, -1] = np.nan
    np.save(tmp_path / "stack.npy", stamps.astype(np.float64))
    table = score(tmp_path / "stack.npy", tmp_path / "scores.csv", "--batch", "4")
    assert list(table["id"]) == list(range(9))
    assert list(table["tags"].fillna("")) == [
        "", "lacks_diff;lacks_srch;lacks_tmpl", "lacks_diff", "nan;edge", "", "constant", "edge",
        "", "",
    ]  # fmt: skip
    assert list(np.flatnonzero(table["p_real"].isna())) == [1]
    assert table["decision"].isna().tolist() == table["p_real"].isna().tolist()
    expected = rb.load(exported()[1]).p_real(stamps)
    np.testing.assert_allclose(table["p_real"].drop(1), np.delete(expected, 1), rtol=1e-5)
    assert json.loads((tmp_path / "scores.csv.json").read_text())["threshold"] == 0.5
    # What a model does not look at is not missing.
    two = score(tmp_path / "stack.npy", tmp_path / "two.csv", model=exported(("srch", "tmpl"))[1])
    assert two["tags"].fillna("")[2] == ""


def test_alerts_good_and_broken(tmp_path):
    alerts = tmp_path / "alerts"
    write(alerts, "a.avro", ztf_file(1))
    no_diff = triplet()
    del no_diff["diff"]
    write(alerts, "b.avro", ztf_file(2, no_diff))
    write(alerts, "c.avro", ztf_file(3, triplet() | {"tmpl": b"damaged"}))
    write(alerts, "d.avro", ztf_file(4, dict.fromkeys(("diff", "srch", "tmpl"), b"damaged")))
    write(alerts, "e.avro", ztf_file(5)[:-3000])
    write(alerts, "f.avro", ztf_file(6)[:100])
    write(alerts, "g.avro", container([ztf(7), ztf(8), ztf(7)], ZTF_SCHEMA))
    write(alerts, "readme.txt", b"no packets")
    small = {c: fits_bytes(image(k, (30, 63))) for k, c in enumerate(("diff", "srch", "tmpl"))}
    write(alerts, "h.avro", ztf_file(9, small))
    table = score(alerts, tmp_path / "scores.parquet", "--batch", "2")
    got = dict(zip(table["origin"], table.itertuples(), strict=True))
    assert list(table["id"].fillna("")) == ["1", "2", "3", "4", "", "", "7", "8", "7", "9"]
    assert got["a.avro:1"].tags == "" and got["a.avro:1"].object == "ZTF20a1"
    assert got["b.avro:1"].tags == "lacks_diff" and got["b.avro:1"].p_real > 0
    assert got["c.avro:1"].tags == "lacks_tmpl" and "tmpl" in got["c.avro:1"].problem
    for name in ("d.avro:1", "e.avro:1", "f.avro"):
        assert got[name].tags == "broken" and got[name].problem
        assert np.isnan(got[name].p_real) and pd.isna(got[name].decision)
    assert got["h.avro:1"].tags == "nan;edge"


@pytest.mark.parametrize("shape", ["flat", "rows", "bytes"])
def test_a_hats_catalogue_with_cutouts(tmp_path, shape):
    stamps, _ = toy_stamps(40)
    root = tmp_path / "catalogue"

    def cells(plane: np.ndarray) -> list:
        if shape == "bytes":
            return [fits_bytes(one) for one in plane]
        return [one.reshape(-1).tolist() if shape == "flat" else one.tolist() for one in plane]

    for part in range(2):
        rows = slice(20 * part, 20 * part + 20)
        table = {name: cells(stamps[rows, i]) for i, name in enumerate(("diff", "srch", "tmpl"))}
        table |= {"id": list(range(100 + rows.start, 100 + rows.stop)), "ra": [1.0] * 20}
        file = root / f"dataset/Norder=1/Dir=0/Npix={part}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), file)
    (root / "hats.properties").write_text("obs_collection=toy\n")
    pq.write_table(pa.table(table), root / "dataset/data_thumbnail.parquet")
    pq.write_metadata(pa.table(table).schema, root / "dataset/_common_metadata")
    found = score(root, tmp_path / "scores.parquet")
    assert list(found["id"]) == [str(100 + i) for i in range(40)]
    expected = rb.load(exported()[1]).p_real(stamps)
    np.testing.assert_allclose(found["p_real"], expected, atol=1e-5)


@pytest.mark.parametrize("packing", [("tar",), ("tree", "tar.gz")], ids="+".join)
def test_a_des_archive(tmp_path, monkeypatch, packing):
    monkeypatch.setattr("rb.scoring.archive._AT_ONCE", 50)
    monkeypatch.setattr("rb.scoring.archive._CHUNK", 16)
    truth = archive.write_archive(tmp_path / "des", 160, packing=packing, damage=0.01)
    table = score(tmp_path / "des", tmp_path / "scores.parquet").set_index("id")
    assert sorted(table.index) == truth.ids and table.index.is_unique
    model = rb.load(exported()[1])
    for kind in ("missing", "cut", "shape", "not_fits"):
        for number in (i for i, k in truth.damage.items() if k == kind):
            assert "lacks_" in table["tags"][number]
            assert kind == "missing" or str(number) in table["problem"][number]
    harmless = [i for i in truth.good if truth.damage.get(i) != "twice"]
    stamps = np.array([[archive.expected(truth, i, p) for p in range(3)] for i in harmless])
    np.testing.assert_allclose(table["p_real"][harmless], model.p_real(stamps), atol=1e-5)
    assert set(table["tags"][harmless]) == {""}


def test_existing_tables(tmp_path, capsys):
    write_set(tmp_path / "set", 30)
    out = tmp_path / "scores.parquet"
    first = score(tmp_path / "set", out)
    before = out.stat()
    pd.testing.assert_frame_equal(
        score(tmp_path / "set", out), first
    )  # the same job: nothing to do
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    words = (str(tmp_path / "set"), "--model", str(exported()[1]), "--out", str(out), "--quiet")
    assert "of another job" in refused(capsys, *words, "--max-nan", "0.5")
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    score(tmp_path / "set", out, "--max-nan", "0.5", "--overwrite")
    assert made_by(out)["max_nan"] == 0.5
    out.write_bytes(b"somebody's own")
    assert "of another job" in refused(capsys, *words)
    assert out.read_bytes() == b"somebody's own"
    words = (str(out), "--model", str(exported()[1]), "--out", str(out), "--overwrite")
    assert "--out" in (said := refused(capsys, *words)) and "that file is read" in said
    assert out.read_bytes() == b"somebody's own"


def test_wrong_data_and_models(tmp_path, capsys):
    model = str(exported()[1])
    out = str(tmp_path / "scores.parquet")
    np.save(tmp_path / "flat.npy", np.zeros((4, 3)))
    np.save(tmp_path / "small.npy", np.zeros((4, 3, 30, 30)))
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 51, 51)))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "texts", "a.txt", b"nothing")
    write_set(tmp_path / "size30", 10, size=30)
    for data, message in (
        ("nowhere", "no such file"),
        ("flat.npy", "array of shape"),
        ("small.npy", "the model takes"),
        ("none.npy", "no stamps"),
        ("bad.npy", "truncated"),
        ("empty", "no files"),
        ("texts", "no alert packets"),
        ("size30", "takes stamps of 51 px"),
    ):
        said = refused(capsys, str(tmp_path / data), "--model", model, "--out", out, "--quiet")
        assert message in said and data in said
    write_set(tmp_path / "set", 10)
    data = str(tmp_path / "set")
    assert "no such model" in refused(capsys, data, "--model", "none.onnx", "--out", out)
    assert "ending .parquet or .csv" in refused(capsys, data, "--model", model, "--out", "s.txt")
    assert "there is no folder" in refused(capsys, data, "--model", model, "--out", "no/s.csv")
    csv = ("--out", str(tmp_path / "s.csv"), "--embeddings")
    assert "do not fit into CSV" in refused(capsys, data, "--model", model, *csv)
    assert not [p for p in tmp_path.iterdir() if "scores" in p.name]


def test_taken_up_after_any_interruption(tmp_path, monkeypatch):
    """Whatever write or rename is the last that an attempt does, the table is the same."""
    write_set(tmp_path / "set", 50)
    expected = score(tmp_path / "set", tmp_path / "whole.parquet", "--batch", "8")
    monkeypatch.setattr(jobs, "_PART_ROWS", 16)
    real, left = os.replace, [0]

    class Killed(BaseException):
        pass

    def replace(self, target):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    out = tmp_path / "scores.parquet"
    for _ in range(5):  # the description of the job, four parts; the table is the next
        left[0] = 1
        with pytest.raises(Killed):
            score(tmp_path / "set", out, "--batch", "8")
        assert not out.exists()
    left[0] = 100
    pd.testing.assert_frame_equal(score(tmp_path / "set", out, "--batch", "8"), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.parquet", "set", "whole.parquet"]


@pytest.mark.slow
def test_killed_at_any_time(tmp_path):
    """SIGKILL, again and again: every candidate is there once in the end."""
    n = 400
    alerts = tmp_path / "alerts"
    for part in range(4):
        packets = [ztf(1 + part * n // 4 + i) for i in range(n // 4)]
        write(alerts, f"{part}.avro", container(packets, ZTF_SCHEMA))
    out = tmp_path / "scores.parquet"
    code = (
        "import sys, rb.scoring.job as j; j._PART_ROWS = 20; from rb.cli import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["score", str(alerts), "--model", str(exported()[1]), "--out", str(out)]
    command = [sys.executable, "-c", code, *words, "--quiet", "--batch", "10"]
    rng = np.random.default_rng(0)
    work = out.with_name(f".{out.name}.partial")
    kills = 0
    for _ in range(30):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        parts = len(list(work.glob("part-*"))) if work.exists() else 0
        while process.poll() is None:
            if work.exists() and len(list(work.glob("part-*"))) > parts + 2:
                time.sleep(rng.uniform(0, 0.1))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        process.wait()
        if process.returncode == 0:
            break
    assert process.returncode == 0 and kills >= 2
    assert "of them before" in process.stdout.read()
    table = pd.read_parquet(out)
    assert table["id"].tolist() == [str(1 + i) for i in range(n)]
    assert table["p_real"].notna().all() and not work.exists()


@pytest.mark.slow
def test_it_is_light(tmp_path):
    """With an exported model nothing heavy is imported, and help answers at once."""
    write_set(tmp_path / "set", 20)
    write(tmp_path / "alerts", "a.avro", ztf_file(1))
    code = (
        "import sys; from rb.cli import main; main(sys.argv[1:]); "
        "print(sorted({'torch', 'lightning', 'mlflow', 'galsim', 'hydra'} & set(sys.modules)))"
    )
    for data in ("set", "alerts"):
        words = ["score", str(tmp_path / data), "--model", str(exported()[1]), "--quiet"]
        words += ["--out", str(tmp_path / f"{data}.parquet")]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    before = os.times()
    subprocess.run([sys.executable, "-m", "rb", "score", "--help"], check=True, capture_output=True)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system
    assert spent - before.children_system <= 0.5


@pytest.mark.slow
def test_real_alerts(tmp_path, shared_data: Path):
    table = score(shared_data / "alerts", tmp_path / "scores.parquet")
    assert len(table) == 144 and table["p_real"].notna().all()
    assert not table["origin"].duplicated().any()
