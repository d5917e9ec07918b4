"""The tutorial, as it stands: all of its blocks, in their order, on files as surveys write them."""

from __future__ import annotations

from pathlib import Path

import alert_makers
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from pages import TINY_NETWORK, Block, blocks, copy_project, run_blocks
from toys import toy_stamps


def write_cutouts(folder: Path, n: int) -> None:
    """FITS files of 63x63 px and one of 45x51, and the table of candidates."""
    folder.mkdir()
    stamps, labels = toy_stamps(n)
    for number, triplet in enumerate(stamps):
        for image, pixels in zip(("diff", "srch", "tmpl"), triplet, strict=True):
            pixels = pixels[3:-3] if number == 0 else np.pad(pixels, 6, mode="reflect")
            fits.PrimaryHDU(pixels).writeto(folder / f"{7000 + number}_{image}.fits")
    rows = {
        "id": np.arange(n) + 7000,
        "label": [None if k == 1 else int(label) for k, label in enumerate(labels)],
        "group": [f"field{k // 5}" for k in range(n)],
        "mag": np.linspace(20, 24, n),
        "snr": np.linspace(40, 5, n),
    }
    pd.DataFrame(rows).to_csv(folder / "candidates.csv", index=False)


def write_alerts(folder: Path, n: int) -> None:
    """ZTF packets, half of them with a high score."""
    for number in range(n):
        score = 0.95 if number % 2 == 0 else 0.02
        packet = alert_makers.ztf_file(100 + number, drb=score, objectId=f"ZTF26{number:04d}")
        alert_makers.write(folder, f"{number}.avro", packet)


@pytest.mark.slow
def test_every_block_of_the_tutorial_runs(tmp_path):
    project = copy_project(tmp_path / "project")
    write_cutouts(project / "cutouts", 80)
    write_alerts(project / "alerts", 40)
    (project / "stacks").mkdir()
    for name, channel in (("search", 1), ("template", 2)):
        np.save(project / "stacks" / f"{name}.npy", toy_stamps(12, seed=5)[0][:, channel])

    tiny = []
    for language, code in blocks("tutorial.md"):
        code = code.replace("trainer=quick", f"trainer=quick {TINY_NETWORK}")
        code = code.replace("report=", "timing=false examples=2 report=")
        tiny.append(Block(language, code))
    assert {block.language for block in tiny} == {"python", "sh"}
    said = run_blocks(project, tiny)

    described, scored = said[2], said[6]
    assert "my survey: 80 candidates in sets/mine" in described
    assert "40 real, 39 bogus, 1 unknown" in described
    assert "tonight" in described and "srch, tmpl of 51x51 px" in described
    assert (project / "mine.png").stat().st_size > 10_000
    for report in ("report", "tonight", "alerts-seen"):
        assert "<h1" in (project / report / "report.html").read_text(encoding="utf-8")
    scores = pd.read_csv(project / "scores.csv")
    assert len(scores) == 12 and scores["p_real"].between(0, 1).all()
    assert f"{(scores['p_real'] >= 0.5).sum()} of 12 are called real" in scored
    kept = pd.read_parquet(project / "tonight" / "scores" / "01_nodia" / "scores.parquet")
    np.testing.assert_allclose(kept["p_real"], scores["p_real"], rtol=0, atol=1e-6)
