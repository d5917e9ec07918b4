"""`rb scan`: a catalogue of what is new, whatever the files look like."""

from __future__ import annotations

import resource
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from dense import write_checkpoint, write_pair
from scipy.ndimage import affine_transform

from rb.cli import main
from rb.scan.images import read_pair


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a pair, its truth and a model."""
    folder = tmp_path_factory.mktemp("scan")
    write_checkpoint(folder / "model.ckpt")
    write_pair(folder / "frames")
    return folder


def scan(place, out, *more, search=None, template=None):
    frames = place / "frames"
    words = [
        str(search or frames / "00000_search.fits"),
        str(template or frames / "00000_template.fits"),
    ]
    model = ["--model", str(place / "model.ckpt"), "--quiet"]
    return main(["scan", *words, "--out", str(out), *model, *map(str, more)])


def refused(capsys, *arguments, **files) -> str:
    assert scan(*arguments, **files) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def truth(place) -> Table:
    table = Table.read(place / "frames" / "00000_truth.fits")
    return table[(table["KIND"] == "sn") & (table["MAG"] < 22.5)]


def changed(place, out, which="search", **cards):
    """A copy of an image with other pixels or cards."""
    with fits.open(place / "frames" / f"00000_{which}.fits") as units:
        pixels = cards.pop("pixels", lambda p: p)(units[0].data.astype(np.float32))
        header = units[0].header.copy()
    for key in cards.pop("without", ()):
        header.remove(key, ignore_missing=True)
    header.update(cards)
    fits.PrimaryHDU(pixels, header).writeto(out, overwrite=True)
    return out


def test_bright_supernovae_are_found_where_and_as_bright_as_they_are(place, tmp_path):
    assert scan(place, tmp_path / "finds.parquet") == 0
    finds, known = pd.read_parquet(tmp_path / "finds.parquet"), truth(place)
    distance = np.hypot(
        finds.x.to_numpy()[:, None] - known["X"], finds.y.to_numpy()[:, None] - known["Y"]
    )
    assert (distance.min(0) < 1.5).mean() >= 0.8
    match, best = distance.argmin(0), distance.min(0) < 1.5
    found = finds.iloc[match[best]]
    # The zero point's own error is 0.01 mag.
    off = found.mag.to_numpy() - np.asarray(known["MAG"])[best]
    assert abs(np.median(off)) < 0.1
    sky = np.hypot(
        (found.ra.to_numpy() - np.asarray(known["RA"])[best])
        * np.cos(np.deg2rad(found.dec.to_numpy())),
        found.dec.to_numpy() - np.asarray(known["DEC"])[best],
    )
    assert np.median(sky) * 3600 < 0.1
    assert finds.p_real.is_monotonic_decreasing and finds.p_real.between(0.5, 1).all()


def test_the_tiling_does_not_change_what_is_found(place, tmp_path):
    assert scan(place, tmp_path / "one.parquet", "--tile", 1024) == 0
    assert scan(place, tmp_path / "two.parquet", "--tile", 150) == 0
    one, two = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, rtol=1e-4, atol=1e-5)


def test_every_format_says_the_same(place, tmp_path):
    tables = []
    for suffix in ("parquet", "csv", "vot", "fits"):
        assert scan(place, tmp_path / f"finds.{suffix}") == 0
    tables = [
        pd.read_parquet(tmp_path / "finds.parquet"),
        pd.read_csv(tmp_path / "finds.csv"),
        Table.read(tmp_path / "finds.vot").to_pandas(),
        Table.read(tmp_path / "finds.fits").to_pandas(),
    ]
    for table in tables[1:]:
        for column in ("x", "p_real", "flux", "ra"):
            np.testing.assert_allclose(table[column], tables[0][column], rtol=1e-6)
    assert str(Table.read(tmp_path / "finds.fits")["flux"].unit) == "adu"
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".fits", ".parquet", ".vot"]


def test_regions_and_a_picture(place, tmp_path):
    assert (
        scan(
            place, tmp_path / "f.csv", "--regions", tmp_path / "f.reg", "--png", tmp_path / "f.png"
        )
        == 0
    )
    finds = pd.read_csv(tmp_path / "f.csv")
    lines = (tmp_path / "f.reg").read_text().splitlines()
    assert lines[1] == "icrs" and len(lines) == 2 + len(finds)
    assert f"{finds.ra[0]:.7f},{finds.dec[0]:.7f}" in lines[2]
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_compressed_files_and_extensions(place, tmp_path):
    with fits.open(place / "frames" / "00000_search.fits") as units:
        first = fits.CompImageHDU(np.zeros((80, 80), np.float32), name="OTHER")
        image = fits.CompImageHDU(units[0].data, units[0].header, "SCI", quantize_level=64)
        fits.HDUList([fits.PrimaryHDU(), first, image]).writeto(tmp_path / "mef.fits.fz")
    assert scan(place, tmp_path / "a.csv", search=f"{tmp_path / 'mef.fits.fz'}[SCI]") == 0
    assert scan(place, tmp_path / "b.csv") == 0
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    top = b[b.snr > 15]
    distance = np.hypot(
        top.x.to_numpy()[:, None] - a.x.to_numpy(), top.y.to_numpy()[:, None] - a.y.to_numpy()
    )
    assert len(top) > 3 and (distance.min(1) < 0.3).all()


def test_a_template_on_another_grid_is_aligned(place, tmp_path):
    pytest.importorskip("reproject")

    def moved(pixels):
        return np.roll(pixels, (7, -5), (0, 1))

    with fits.open(place / "frames" / "00000_template.fits") as units:
        crpix = (units[0].header["CRPIX1"] - 5, units[0].header["CRPIX2"] + 7)
    template = changed(
        place, tmp_path / "t.fits", "template", pixels=moved, CRPIX1=crpix[0], CRPIX2=crpix[1]
    )
    assert scan(place, tmp_path / "a.csv", template=template) == 0
    assert scan(place, tmp_path / "b.csv") == 0
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    inside = b[b.x.between(30, 350) & b.y.between(30, 350) & (b.snr > 15)]
    distance = np.hypot(
        inside.x.to_numpy()[:, None] - a.x.to_numpy(), inside.y.to_numpy()[:, None] - a.y.to_numpy()
    )
    assert len(inside) > 3 and (distance.min(1) < 0.3).all()


def test_a_template_that_is_a_little_off_is_registered_by_its_sources(place, tmp_path):
    def turned(pixels):
        angle = np.deg2rad(0.1)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return affine_transform(pixels, matrix, (0.4, -0.7), order=5, mode="nearest")

    template = changed(place, tmp_path / "t.fits", "template", pixels=turned)
    assert scan(place, tmp_path / "a.csv", template=template) == 0
    assert scan(place, tmp_path / "b.csv") == 0
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    assert len(a) <= 1.2 * len(b) + 2  # without it, stars and galaxies are finds
    bright = b[b.snr > 15]
    distance = np.hypot(
        bright.x.to_numpy()[:, None] - a.x.to_numpy(), bright.y.to_numpy()[:, None] - a.y.to_numpy()
    )
    assert len(bright) > 3 and (distance.min(1) < 0.3).all()
    flux = a.flux.to_numpy()[distance.argmin(1)] / bright.flux
    assert abs(np.median(flux) - 1) < 0.03


def test_nothing_is_looked_for_where_half_the_surroundings_are_unknown(place, tmp_path):
    assert scan(place, tmp_path / "a.csv", "--threshold", 0.001) == 0
    finds = pd.read_csv(tmp_path / "a.csv")
    with fits.open(place / "frames" / "00000_search.fits") as units:
        height, width = units[0].data.shape
    assert len(finds) > 10
    assert finds.x.between(11, width - 12).all() and finds.y.between(11, height - 12).all()


def test_missing_and_saturated_pixels_hold_no_finds(place, tmp_path):
    def holed(pixels):
        pixels[100:200, 100:200] = np.nan
        return pixels

    search = changed(place, tmp_path / "s.fits", pixels=holed)
    assert scan(place, tmp_path / "finds.csv", search=search) == 0
    finds = pd.read_csv(tmp_path / "finds.csv")
    assert len(finds) and np.isfinite(finds.flux).all()
    column, row = finds.x.round(), finds.y.round()
    # Nor do their surroundings, where a source is cut; photometry moves a find by up to 2 px.
    assert not (column.between(97, 202) & row.between(97, 202)).any()


@pytest.mark.parametrize("which", ["search", "template"])
def test_absurd_pixels_are_unknown_ones(place, tmp_path, which):
    def absurd(pixels):
        pixels[100:200, 100:200] = np.float32(1e37) * np.random.default_rng(0).normal(
            size=(100, 100)
        )
        return pixels

    def unknown(pixels):
        pixels[100:200, 100:200] = np.nan
        return pixels

    found = []
    for name, pixels in (("absurd", absurd), ("unknown", unknown)):
        image = changed(place, tmp_path / f"{name}.fits", which, pixels=pixels)
        out = tmp_path / f"{name}.csv"
        assert scan(place, out, **{which: image}) == 0
        found.append(pd.read_csv(out))
    assert len(found[0]) and found[0].equals(found[1])


def test_pixels_that_slipped_by_a_byte_are_said_in_a_line(place, tmp_path, capsys):
    content = (place / "frames" / "00000_template.fits").read_bytes()
    end = content.index(b"END" + b" " * 77)
    start = -(-(end + 80) // 2880) * 2880
    (tmp_path / "slipped.fits").write_bytes(content[:start] + b"\x7f" + content[start:-1])
    said = refused(capsys, place, tmp_path / "f.csv", template=tmp_path / "slipped.fits")
    assert "slipped.fits: " in said


def test_a_folder_is_scanned_pair_by_pair_and_gone_on_with(place, tmp_path, capsys):
    for kind in ("search", "template"):
        (tmp_path / kind).mkdir()
        for name in ("a", "b"):
            file = place / "frames" / f"00000_{kind}.fits"
            shutil.copy(file, tmp_path / kind / f"{name}.fits")
    words = {"search": tmp_path / "search", "template": tmp_path / "template"}
    assert scan(place, tmp_path / "out", **words) == 0
    first = (tmp_path / "out" / "a.parquet").read_bytes()
    (tmp_path / "out" / "b.parquet").unlink()
    capsys.readouterr()
    assert scan(place, tmp_path / "out", **words) == 0
    assert "2 pairs, 1 of them scanned before" in capsys.readouterr().out
    assert (tmp_path / "out" / "a.parquet").read_bytes() == first
    assert (tmp_path / "out" / "b.parquet").exists()


def listed(path, *pairs, head="search,template"):
    path.write_text("\n".join([head, *(",".join(map(str, pair)) for pair in pairs)]) + "\n")
    return path


def test_a_list_is_scanned_pair_by_pair_and_gone_on_with(place, tmp_path, capsys):
    model = ["--model", str(place / "model.ckpt"), "--quiet"]
    search, template = (place / "frames" / f"00000_{kind}.fits" for kind in ("search", "template"))
    shutil.copy(search, tmp_path / "other.fits")
    pairs = listed(
        tmp_path / "pairs.csv", (search, template), (f"{tmp_path}/other.fits[0]", template)
    )
    words = ["scan", str(pairs), "--out", str(tmp_path / "out"), *model]
    assert main(words) == 0
    names = ["00000_search.parquet", "other_0.parquet"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    one, two = (pd.read_parquet(tmp_path / "out" / name) for name in names)
    pd.testing.assert_frame_equal(one, two)
    (tmp_path / "out" / names[0]).unlink()
    capsys.readouterr()
    assert main(words) == 0
    assert "2 pairs, 1 of them scanned before" in capsys.readouterr().out

    def refuses(words, what):
        assert main(["scan", *map(str, words), "--out", str(tmp_path / "no"), *model]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and what in said
        assert not (tmp_path / "no").exists()

    refuses([pairs, template], "is a list")
    refuses([pairs, "--png", tmp_path / "f.png"], "--png is of a single pair")
    refuses([search], "give the template")
    refuses([tmp_path / "none.csv"], "not a list of pairs")
    refuses([listed(tmp_path / "a.csv", (search, template), head="a,b")], "search,template")
    refuses([listed(tmp_path / "b.csv", (search, tmp_path / "gone.fits"))], "b.csv, line 2")
    refuses([listed(tmp_path / "c.csv", (search, template), (search, template))], "two search")


def test_psfs_that_are_given_are_used(place, tmp_path, capsys):
    search, template = (place / "frames" / f"00000_{kind}.fits" for kind in ("search", "template"))
    measured = read_pair(str(search), str(template)).pair.psf
    for name, pixels in zip("st", measured, strict=True):
        # On a larger image, and not of sum 1.
        fits.PrimaryHDU(np.pad(7 * pixels, 4)).writeto(tmp_path / f"{name}.fits")
        fits.PrimaryHDU(np.roll(pixels, 5)).writeto(tmp_path / f"{name}_off.fits")
    given = [tmp_path / "s.fits", tmp_path / "t.fits"]
    assert scan(place, tmp_path / "a.csv") == 0
    assert scan(place, tmp_path / "b.csv", "--psf", *given) == 0
    assert scan(place, tmp_path / "c.csv", "--psf", *reversed(given)) == 0
    a, b, c = (pd.read_csv(tmp_path / f"{name}.csv") for name in "abc")
    pd.testing.assert_frame_equal(a, b, rtol=1e-4)
    assert len(c) != len(a) or not np.allclose(a.flux, c.flux, rtol=1e-3)
    out = tmp_path / "f.csv"
    wrong = [tmp_path / "s_off.fits", tmp_path / "t.fits"]
    assert "in the middle" in refused(capsys, place, out, "--psf", *wrong)
    assert "odd height" in refused(capsys, place, out, "--psf", search, template)
    assert not out.exists()


def test_nothing_new_is_an_empty_catalogue(place, tmp_path):
    template = place / "frames" / "00000_template.fits"
    same = changed(place, tmp_path / "same.fits", "template", pixels=lambda p: p * 1.01)
    for suffix in ("csv", "parquet", "fits", "vot"):
        out = tmp_path / f"f.{suffix}"
        assert scan(place, out, search=same, template=template) == 0
    assert len(pd.read_csv(tmp_path / "f.csv")) == 0
    assert list(pd.read_csv(tmp_path / "f.csv")) == list(pd.read_parquet(tmp_path / "f.parquet"))


def test_what_cannot_be_scanned_is_said_in_a_line(place, tmp_path, capsys):
    out = tmp_path / "f.csv"
    blank = changed(place, tmp_path / "blank.fits", pixels=np.zeros_like)
    assert "search image is blank" in refused(capsys, place, out, search=blank)
    far = changed(place, tmp_path / "far.fits", CRVAL1=10.0)
    assert "do not overlap" in refused(capsys, place, out, search=far)
    coarse = changed(place, tmp_path / "coarse.fits", CDELT1=-2e-4, CDELT2=2e-4)
    assert "one pixel scale" in refused(capsys, place, out, search=coarse)
    none = changed(
        place,
        tmp_path / "none.fits",
        pixels=lambda p: p[:300].copy(),
        without=("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"),
    )
    assert "no celestial WCS" in refused(capsys, place, out, search=none)
    cut = tmp_path / "cut.fits"
    cut.write_bytes((place / "frames" / "00000_search.fits").read_bytes()[:200000])
    assert "cut.fits: not a whole FITS image" in refused(capsys, place, out, search=cut)
    text = tmp_path / "text.fits"
    text.write_text("no FITS")
    assert "not a whole FITS image" in refused(capsys, place, out, search=text)
    assert "no such file" in refused(capsys, place, out, search=tmp_path / "nothing.fits")
    assert "no such file" in refused(capsys, place, out, search="a" * 5000)
    assert "give the file the ending" in refused(capsys, place, tmp_path / "f.txt")
    assert "no folder" in refused(capsys, place, tmp_path / "nowhere" / "f.csv")
    assert "--threshold" in refused(capsys, place, out, "--threshold", 0)
    frame = place / "frames" / "00000_search.fits"
    assert "the same pixels" in refused(capsys, place, out, search=frame, template=frame)
    content = frame.read_bytes()
    assert "that file is read" in refused(capsys, place, frame, "--overwrite")
    assert frame.read_bytes() == content
    model = place / "model.ckpt"
    assert "that file is read" in refused(capsys, place, out, "--png", model)
    assert "what --out writes" in refused(capsys, place, out, "--png", out)
    assert "what --out writes" in refused(capsys, place, out, "--regions", out)
    assert not out.exists()
    out.write_text("mine")
    assert "exists already" in refused(capsys, place, out) and out.read_text() == "mine"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "vot", "fits"])
def test_a_full_disk_is_said_in_a_line_and_leaves_nothing(place, tmp_path, capsys, suffix):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        said = refused(capsys, place, tmp_path / f"f.{suffix}", "--threshold", 0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"f.{suffix}: the catalogue cannot be written" in said
    assert not list(tmp_path.iterdir())


def test_a_model_of_stamps_is_refused(place, tmp_path, capsys):
    words = [str(place / "frames" / f"00000_{kind}.fits") for kind in ("search", "template")]
    assert main(["scan", *words, "--out", str(tmp_path / "f.csv"), "--model", "nodia"]) == 2
    assert "does not search images" in capsys.readouterr().err


def test_a_judge_of_search_and_template_looks_again(place, tmp_path, capsys):
    assert scan(place, tmp_path / "one.csv", "--judge", "none") == 0
    assert scan(place, tmp_path / "both.csv") == 0
    one, both = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "both"))
    assert both.p_real.is_monotonic_decreasing
    known = truth(place)
    right = [
        np.hypot(t.x.to_numpy()[:, None] - known["X"], t.y.to_numpy()[:, None] - known["Y"]).min(1)
        < 1.5
        for t in (one, both)
    ]
    assert right[1].mean() >= right[0].mean() and right[1].sum() >= 0.8 * right[0].sum()
    assert "without a difference image" in refused(
        capsys, place, tmp_path / "f.csv", "--judge", "dia"
    )
