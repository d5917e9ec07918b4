"""Candidates without an image are found, whatever their other pixels."""

from __future__ import annotations

import numpy as np
import pytest
from toys import write_set

from rb.stamps.missing_images import rows_that_lack


@pytest.mark.parametrize(
    ("channels", "lacking"),
    [(("diff", "srch", "tmpl"), [4, 7]), (("srch", "tmpl"), [7]), (("tmpl",), [])],
)
def test_only_the_images_that_a_model_looks_at_count(tmp_path, channels, lacking):
    stamp_set = write_set(tmp_path / "set", 10, absent={4: 0, 7: 1})
    rows = np.array([7, 4, 1])
    found = rows_that_lack(stamp_set, rows, channels)
    assert sorted(rows[found].tolist()) == lacking


def test_a_whole_set_reads_no_stamp(tmp_path):
    stamp_set = write_set(tmp_path / "set", 10)
    stamp_set.stamps = None  # whoever reads it now fails
    assert not rows_that_lack(stamp_set, np.arange(10), ("diff",)).any()
