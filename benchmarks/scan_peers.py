"""Other searches of the frames of `study=scan`: sfft, a filter with true PSFs, source by source.

    pip install sfft
    python benchmarks/scan_peers.py scan_judge dia

`sfft` (Hu et al. 2022, ApJ 936, 157) subtracts, with a constant kernel, as ours has; noise,
detection and ranking are those of our difference imaging, whose threshold is low, so that
nothing but the difference image is another one. Candidates are ranked by SNR and by the networks
that are given.

`true PSFs` is the corrected score of Zackay, Ofek & Gal-Yam (2016) with the PSFs of the middle of
the frame as they were drawn, not as they are measured.

`sources` is the search that looks at everything in the search image: each peak that stands above
its surroundings (a PSF less one of twice the width, over the noise) is shown to the networks that
need no difference image. Nothing is subtracted to find them.

Writes `benchmarks/results/scan_peers.csv` and `scan_peers_cost.csv`. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scan import ROOT, write
from scipy.ndimage import gaussian_filter
from subtraction import sfft
from threadpoolctl import threadpool_limits

from rb.config import project_root
from rb.io.progress import bar
from rb.models.files import load_file
from rb.models.pretrained import published_file
from rb.scan.benchmark import filter_rows, find_rows, frame_part
from rb.scan.judge import judge, logit
from rb.scan.photometry import Photometry, measure
from rb.scan.search import find_peaks
from rb.scan.tables import SearchTables
from rb.stamps.batch import Stamps
from rb.stamps.resumable import Part, Parts
from rb.studies.scan import survey_of
from rb.survey.camera.exposures import Exposure
from rb.survey.camera.observation import observe
from rb.survey.frame import Stopwatch, cut_stamps, match_frame
from rb.survey.pipeline.detection import detect, find_reference
from rb.survey.pipeline.measure import PSF_SIZE
from rb.survey.pipeline.pair import MeasuredPair, measure_pair
from rb.survey.pipeline.subtraction import difference_variance
from rb.survey.settings import SurveySettings
from rb.survey.sky.render import Sources, draw_sources
from rb.survey.tiles import true_events

_SFFT = "sfft"
_TRUE = "matched filter, true PSFs"
_SOURCES = "sources"
_LEAST_SOURCE = 4.0  # SNR of a peak of the search image
_WIDTH = 2.3548  # FWHM over sigma


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judges", nargs="+", help="networks of the package that judge stamps")
    parser.add_argument("--root", type=Path, default=ROOT, help="with .cache/")
    parser.add_argument("--frames", type=int, help="(200)")
    told = parser.parse_args()
    file = project_root() / "conf" / "study" / "scan.yaml"
    study = yaml.safe_load(file.read_text(encoding="utf-8"))
    settings = survey_of({}, study)
    scorers = {name: load_file(published_file(name) or name) for name in told.judges}
    torch.set_num_threads(1)
    kept = Parts(told.root / ".cache" / f"scan-peers-{settings.digest()}-{'-'.join(scorers)}")
    parts, n = [], told.frames or study["frames"]
    # One that is not counted: it compiles, and fills caches.
    with threadpool_limits(1), bar(True, "searching", n, "frames") as step:
        if kept.read(n - 1) is None:
            search_frame(settings, scorers, 0)
        for number in range(n):
            part = kept.read(number)
            if part is None:
                part = search_frame(settings, scorers, number)
                kept.write(number, part)
            parts.append(part)
            step.advance()
    tables = SearchTables(parts, study, settings)
    about = f"{len(tables.told)} supernovae of true SNR >= 5 in {n} frames of seed {study['seed']}"
    write("scan_peers", tables.by_rate(tables.names).reset_index(names="search"), about)
    write("scan_peers_cost", tables.cost(), about)


def search_frame(settings: SurveySettings, scorers: dict[str, Any], number: int) -> Part:
    """Rows of finds as those of `rb.scan.benchmark.search_frame`, of other searches."""
    observation = observe(settings, number)
    mask, detection = observation.mask, settings.detection
    search, template = observation.search, observation.template
    gain = 1.0 / max(search.conditions.shot_noise, 1e-9)
    edge = detection.stamp_size // 2
    clock = Stopwatch()
    pair = measure_pair(search.image, template.image, mask, detection)
    clock.lap("measuring the pair")
    found = []

    fwhm = search.conditions.psf.fwhm
    reference = find_reference(template.image, template.conditions.sky_noise, detection)
    # The expected noise of our own difference image: what is compared is the subtraction.
    match = match_frame(settings, observation, reference)
    variance = difference_variance(search.variance, template.variance, match)
    clock.lap("")
    difference = sfft(0)(settings, observation)
    clock.lap(_SFFT)
    seen = detect(difference, variance, mask, fwhm, detection)
    places = Photometry(seen.x, seen.y, seen.flux, seen.flux_err)
    found.append(find_rows(_SFFT, places, seen.flux / seen.flux_err))
    stamps = Stamps(cut_stamps((difference, search.image, template.image), seen.x, seen.y))
    for other, scorer in scorers.items():
        if scorer.inputs.kind == "nodia":
            p = judge(scorer, pair, seen.x, seen.y)
        else:
            p = np.asarray(scorer.p_real(stamps), float) if len(stamps) else np.zeros(0)
        found.append(find_rows(f"{_SFFT} + {other}", places, logit(p)))

    true = replace(pair, psf=np.stack([drawn_psf(one, mask.shape) for one in (search, template)]))
    clock.lap("")
    found.append(filter_rows(_TRUE, true, gain, edge))
    clock.lap(_TRUE)

    x, y = find_peaks(source_map(pair, fwhm), pair.masked, _LEAST_SOURCE, edge)
    sources = measure(pair, x, y, gain)
    clock.lap(_SOURCES)
    for other, scorer in scorers.items():
        if scorer.inputs.kind == "nodia":
            p = judge(scorer, pair, sources.x, sources.y)
            found.append(find_rows(f"{_SOURCES} + {other}", sources, logit(p)))
            clock.lap(f"{_SOURCES} + {other}")

    clock.lap("")
    return frame_part(observation, pair, found, true_events(observation, pair), clock)


def drawn_psf(exposure: Exposure, shape: tuple[int, ...]) -> np.ndarray:
    """The PSF in the middle of the frame as the simulation draws it, of sum 1."""
    middle = [np.array([0.5 * (n - 1)]) for n in shape[::-1]]
    image = np.zeros((PSF_SIZE, PSF_SIZE), np.float32)
    place = np.array([PSF_SIZE // 2], float)
    draw_sources(
        image, Sources.points(place, place, np.array([1e6])), exposure.conditions.psf.at(*middle)
    )
    return image / image.sum()


def source_map(pair: MeasuredPair, fwhm: float) -> np.ndarray:
    """How far each pixel of the search image stands above its surroundings, over the noise."""
    narrow, wide = (gaussian_filter(pair.search, s * fwhm / _WIDTH) for s in (1.0, 2.0))
    # Noise of the difference of two Gaussians, of pixels that are independent.
    s = fwhm / _WIDTH
    power = (1 / s**2 + 1 / (2 * s) ** 2 - 4 / (s**2 + (2 * s) ** 2)) / (4 * np.pi)
    return np.asarray((narrow - wide) / (pair.noise[0] * np.sqrt(power)), np.float32)


if __name__ == "__main__":
    main()
