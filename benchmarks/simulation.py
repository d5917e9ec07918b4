"""How fast the simulated survey is made, and where the time goes.

    python benchmarks/simulation.py --candidates 2000 --processes 2

Prints candidates per second (wall and CPU), the CPU split by step, the cost of DIA in it, and the
two renderers side by side on the same sources.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time

import numpy as np

from rb.sources.simulated import build
from rb.survey.camera.observation import observe
from rb.survey.settings import settings_from_config
from rb.survey.sky.render import Sources, draw_sources


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=31)
    args = parser.parse_args()
    build_set(args.candidates, args.processes, args.seed)
    renderers(args.seed)


def build_set(candidates: int, processes: int, seed: int) -> None:
    config = {"candidates": candidates, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        stamps = build(config, folder, processes, progress=False)
        wall = time.perf_counter() - start
        frames = stamps.table("frames")
        start = time.perf_counter()
        build(config, folder, processes, progress=False)
        again = time.perf_counter() - start
        real = float(np.mean(stamps.labels == 0))
    steps = {name[4:-2]: frames[name].to_numpy() for name in frames if name.startswith("cpu_")}
    cpu = sum(values.sum() for values in steps.values())
    found = frames["detections"].sum()
    print(f"{candidates} candidates ({real:.0%} real) from {len(frames)} frames")
    print(f"  wall {wall:.1f} s with {processes} processes, {candidates / wall:.0f} a second")
    print(
        f"  CPU  {found / cpu:.0f} candidates a CPU second; the second run opens in {again:.3f} s"
    )
    for step, values in steps.items():
        print(f"  {step:13s} {np.median(values) * 1e3:7.1f} ms a frame, {values.sum() / cpu:6.1%}")
    dia = sum(np.median(steps[s]) for s in ("psf_matching", "subtraction"))
    print(f"  DIA: {dia * 1e3:.1f} ms a frame, {np.median(steps['psf_matching']) / dia:.0%} of it "
          "PSF matching")  # fmt: skip


def renderers(seed: int) -> None:
    settings = settings_from_config({"seed": seed})
    observation = observe(settings, 0)
    night = observation.search.conditions
    size = settings.scene.frame_size
    print("\nrenderers, CPU ms a source (search image of frame 0), largest difference over peak")
    lists = {"galaxies": observation.scene.galaxies.parts, "stars": observation.scene.stars}
    for name in lists:
        sources: Sources = lists[name]
        few = Sources(*(getattr(sources, f.name)[:60] for f in dataclasses.fields(Sources)))
        shapes = night.psf.at(few.x, few.y)
        images, cost = {}, {}
        for renderer in ("mixture", "galsim"):
            images[renderer] = np.zeros((size, size), dtype=np.float32)
            draw_sources(images[renderer], few, shapes, renderer, 0.03 * night.sky_noise)
            start = time.process_time()
            blank = np.zeros((size, size), dtype=np.float32)
            draw_sources(blank, few, shapes, renderer, 0.03 * night.sky_noise)
            cost[renderer] = (time.process_time() - start) / len(few.x)
        worst = np.abs(images["mixture"] - images["galsim"]).max() / images["galsim"].max()
        print(f"  {name:9s} mixture {cost['mixture'] * 1e3:6.2f}   galsim "
              f"{cost['galsim'] * 1e3:6.2f}   {worst:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
