"""Building, growing, resuming and keeping the simulated survey, through its front door."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from rb.errors import UserError
from rb.sources.simulated import build, cache_key, set_path
from rb.stamps import StampSet
from rb.survey import build as survey_build

CONFIG = {
    "name": "simulated",
    "candidates": 30,
    "seed": 5,
    "processes": None,
    "keep_frames": False,
    "scene": {
        "frame_size": 240,
        "star_density": 14.0,
        "galaxy_density": 14.0,
        "sn_per_frame": 8,
        "sn_mag": [19.0, 23.0],
        "sn_mag_peak": 21.5,
    },
    "subtraction": {"regions": 16},
}


def make(path, processes=1, **changes):
    return build(CONFIG | changes, path, processes, progress=False)


@pytest.fixture
def simulated(monkeypatch):
    """Numbers of the frames that were simulated, not read."""
    numbers = []
    simulate = survey_build.simulate_frame

    def counted(settings, number, keep=None):
        numbers.append(number)
        return simulate(settings, number, keep)

    monkeypatch.setattr(survey_build, "simulate_frame", counted)
    return numbers


def assert_begins_with(longer: StampSet, shorter: StampSet) -> None:
    n = len(shorter)
    np.testing.assert_array_equal(longer.stamps[:n], shorter.stamps)
    assert longer.arrays == shorter.arrays
    for name in longer.arrays:
        np.testing.assert_array_equal(getattr(longer, name)[:n], getattr(shorter, name))
    assert_frame_equal(longer.catalogue.iloc[:n], shorter.catalogue)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Thirty candidates made by one process."""
    return make(tmp_path_factory.mktemp("first"))


def test_set_is_what_was_asked_for(first):
    assert len(first) == 30
    assert set(first.labels) == {0, 1}
    assert first.meta["pixel_scale"] == 0.263
    assert first.meta["parameters"]["key"] == cache_key(CONFIG)
    frames = first.table("frames")
    assert frames["candidates"].sum() == 30
    assert frames["frame"].tolist() == list(range(len(frames)))
    assert (frames["cpu_psf_matching_s"] > 0).all()
    assert first.catalogue.groupby("group")["frame"].nunique().eq(1).all()


def test_two_processes_make_the_same(first, tmp_path):
    second = make(tmp_path, processes=2)
    assert second.digest == first.digest
    np.testing.assert_array_equal(second.stamps, first.stamps)


def test_second_run_opens_what_is_there(first, simulated):
    start = time.perf_counter()
    again = make(first.path.parents[1], name="another", processes=7)
    assert time.perf_counter() - start < 1.0
    assert again.digest == first.digest
    assert simulated == []


def test_growing_keeps_what_there_was(tmp_path, simulated):
    small = make(tmp_path)
    before = len(simulated)
    large = make(tmp_path, candidates=70)
    assert_begins_with(large, small)
    # Only the frame that was cut and those after it are simulated.
    assert min(simulated[before:]) == len(small.table("frames")) - 1
    grown_at_once = make(tmp_path / "elsewhere", candidates=70)
    assert grown_at_once.digest == large.digest


def test_planes_are_kept_where_they_are_asked_for(first, tmp_path, simulated):
    assert first.arrays == ("psf",)
    small = make(tmp_path, candidates=20, planes=["psf", "variance"])
    assert small.arrays == ("variance", "psf")
    np.testing.assert_array_equal(small.stamps, first.stamps[:20])
    np.testing.assert_array_equal(small.psf, first.psf[:20])
    assert_begins_with(make(tmp_path, candidates=30, planes=["variance", "psf"]), small)
    simulated.clear()
    assert make(tmp_path, candidates=5, planes=[]).arrays == ()
    assert simulated  # another set, which does not disturb the first
    assert make(tmp_path, candidates=20, planes=["psf", "variance"]).digest == small.digest


def test_shrinking_simulates_nothing(tmp_path, simulated):
    large = make(tmp_path, candidates=60)
    simulated.clear()
    small = make(tmp_path, candidates=20)
    assert_begins_with(large, small)
    assert len(simulated) <= 1


def test_interrupted_build_goes_on(first, tmp_path, monkeypatch):
    simulate = survey_build.simulate_frame
    done = []

    def until_two(settings, number, keep=None):
        if number == 2:
            raise KeyboardInterrupt
        done.append(number)
        return simulate(settings, number, keep)

    monkeypatch.setattr(survey_build, "simulate_frame", until_two)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    target = set_path(CONFIG, tmp_path)
    assert done == [0, 1]
    assert not target.exists()

    def from_two(settings, number, keep=None):
        assert number >= 2, "a finished frame was simulated again"
        return simulate(settings, number, keep)

    monkeypatch.setattr(survey_build, "simulate_frame", from_two)
    resumed = make(tmp_path)
    assert resumed.digest == first.digest
    assert [p.name for p in target.parent.iterdir()] == ["30"]


def test_damaged_part_is_made_again(first, tmp_path):
    parts = set_path(CONFIG, tmp_path).parent / "parts"
    parts.mkdir(parents=True)
    (parts / "00000.npz").write_bytes(b"PK not really")
    assert make(tmp_path).digest == first.digest


@pytest.mark.slow
def test_a_killed_build_leaves_no_set_and_can_be_resumed(first, tmp_path):
    script = textwrap.dedent(
        f"""
        from rb.sources.simulated import build
        if __name__ == "__main__":
            build({CONFIG!r} | {{"candidates": 100000}}, {str(tmp_path)!r}, 2, progress=False)
        """
    )
    (tmp_path / "script.py").write_text(script)
    parts = set_path(CONFIG, tmp_path).parent / "parts"
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], cwd=Path(__file__).parents[2],
        env={**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(parts.glob("[0-9]*.npz"))) < 2:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(list(parts.glob("[0-9]*.npz"))) >= 2
    assert not set_path(CONFIG, tmp_path).exists()
    assert make(tmp_path).digest == first.digest


_CHILD = """
import sys
from rb.sources.simulated import build
print(build({config!r}, {cache!r}, 1, progress=False).digest)
"""


def child(cache: Path, **changes) -> subprocess.Popen:
    # From standard input: there is no script that workers could run again.
    process = subprocess.Popen(
        [sys.executable, "-"], cwd=Path(__file__).parents[2], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    process.stdin.write(_CHILD.format(config=CONFIG | changes, cache=str(cache)))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.slow
def test_two_that_need_the_same_set_make_it_once(first, tmp_path):
    parts = set_path(CONFIG, tmp_path).parent / "parts"
    one = child(tmp_path)
    wait_for(lambda: len(list(parts.glob("[0-9]*.npz"))) >= 1)
    one.send_signal(signal.SIGSTOP)  # in the middle, however quick the machine is
    other, smaller = child(tmp_path), child(tmp_path, candidates=7)
    for process in (other, smaller):
        process.first_line = process.stderr.readline()
    one.send_signal(signal.SIGCONT)
    told = [process.communicate(timeout=120) for process in (one, other, smaller)]
    assert [out.strip() for out, _ in told[:2]] == [first.digest] * 2, told
    assert "waiting" not in told[0][1]
    for process, (_, error) in zip((other, smaller), told[1:], strict=True):
        assert process.first_line.startswith("waiting for another process that builds ")
        assert not error
    found = sorted(p.name for p in parts.parent.iterdir())
    assert found == ["30", "7"], "neither lock nor work is left"
    assert_begins_with(first, StampSet.open(parts.parent / "7"))


@pytest.mark.slow
def test_what_a_killed_build_left_is_removed_by_the_next(first, tmp_path):
    folder = set_path(CONFIG, tmp_path).parent
    killed = child(tmp_path, candidates=100000)
    wait_for(lambda: len(list(folder.glob("parts/[0-9]*.npz"))) >= 1)
    killed.kill()
    killed.communicate()
    assert list(folder.glob(".100000.*.building"))
    assert make(tmp_path).digest == first.digest
    assert [p.name for p in folder.iterdir()] == ["30"]


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_kept_frames_are_whole_and_their_wcs_leads_back(first, tmp_path):
    from astropy.io import fits
    from astropy.wcs import WCS

    kept = make(tmp_path, keep_frames=True)
    assert kept.digest == first.digest
    folder = kept.path.parent / "frames"
    catalogue = kept.catalogue
    frames = kept.table("frames")
    for number in frames["frame"]:
        rows = catalogue[catalogue["frame"] == number]
        images = {}
        for name in ("search", "template", "difference"):
            with fits.open(folder / f"{number:05d}_{name}.fits") as file:
                images[name], header = file[0].data, file[0].header
                assert header["IMTYPE"] == name
                assert header["FRAME"] == number
                assert header["MAGZERO"] > 25
                wcs = WCS(header)
        x, y = wcs.all_world2pix(rows["ra"], rows["dec"], 0)
        np.testing.assert_allclose(x, rows["x"], atol=1e-6)
        np.testing.assert_allclose(y, rows["y"], atol=1e-6)
        for i, xi, yi in zip(rows.index, rows["x"], rows["y"], strict=True):
            cut = np.s_[round(yi) - 25 : round(yi) + 26, round(xi) - 25 : round(xi) + 26]
            for channel, name in enumerate(("difference", "search", "template")):
                np.testing.assert_array_equal(kept.stamps[i, channel], images[name][cut])
        truth = fits.getdata(folder / f"{number:05d}_truth.fits", 1)
        supernovae = truth[np.char.strip(truth["KIND"].astype(str)) == "sn"]
        summary = frames.iloc[number]
        assert len(supernovae) == summary["sn_injected"]
        assert supernovae["FOUND"].sum() == summary["sn_recovered"]
        hosts = truth[supernovae["HOST"][supernovae["HOST"] >= 0]]
        assert (np.char.strip(hosts["KIND"].astype(str)) == "galaxy").all()


def test_frames_can_be_kept_afterwards(tmp_path, simulated):
    plain = make(tmp_path)
    simulated.clear()
    kept = make(tmp_path, keep_frames=True)
    assert kept.digest == plain.digest
    assert simulated == plain.table("frames")["frame"].tolist()
    files = list((kept.path.parent / "frames").iterdir())
    assert len(files) == 4 * len(simulated)
    simulated.clear()
    make(tmp_path, keep_frames=True)
    assert simulated == []


def test_cache_key_follows_physics_only():
    key = cache_key(CONFIG)
    assert key == cache_key(CONFIG | {"candidates": 99, "processes": 3, "keep_frames": True})
    assert key != cache_key(CONFIG | {"seed": 6})
    assert key != cache_key(CONFIG | {"artefacts": {"cosmic_rays": 2.0}})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"candidates": 0}, "data.candidates"),
        ({"candidates": 2.5}, "data.candidates"),
        ({"keep_frames": "yes"}, "data.keep_frames"),
        ({"artifacts": {}}, "data.artifacts"),
        ({"planes": ["noise"]}, "data.planes"),
        ({"scene": {"frame_size": 50}}, "data.scene.frame_size"),
    ],
)
def test_broken_settings_are_refused_by_name(tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        make(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_processes_must_be_a_number(tmp_path):
    with pytest.raises(UserError, match=r"data\.processes"):
        make(tmp_path, processes=0)


def test_a_survey_that_finds_nothing_says_so(tmp_path):
    detection = {"threshold": 1e6}
    config = {"detection": detection, "scene": CONFIG["scene"] | {"sn_per_frame": 0}}
    with pytest.raises(UserError, match="found nothing"):
        make(tmp_path, **config)
    assert not set_path(CONFIG | config, tmp_path).exists()


def test_cache_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UserError, match="file"):
        make(blocked)
