"""Memory that `rb score` takes while it scores very many stamps, and how fast it is.

    python benchmarks/scoring_memory.py --stamps 200000

A stack of so many random stamps is written (31 kB each), and scored by the published network
`nodia_stamps` as a checkpoint and as an exported file, each in a process of its own. Prints the
resident memory, children included, at every tenth of the way, and the most of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil


def stack(path: Path, n: int) -> None:
    """Random stamps, the same thousand again and again."""
    rng = np.random.default_rng(0)
    some = rng.normal(size=(1000, 3, 51, 51)).astype(np.float32)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n, 3, 51, 51))
    for start in range(0, n, 1000):
        array[start : start + 1000] = some[: min(1000, n - start)]
    array.flush()


def resident(process: psutil.Process) -> float:
    """Bytes that it and its children hold."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def watch(words: list[str]) -> tuple[list[tuple[float, float]], float]:
    """(seconds, MB) while a command runs, and how long it took."""
    started = time.monotonic()
    process = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = []
    while process.poll() is None:
        try:
            seen.append((time.monotonic() - started, resident(process) / 1e6))
        except psutil.Error:
            break
        time.sleep(0.2)
    if process.wait():
        raise SystemExit(f"{' '.join(words)} failed")
    return seen, time.monotonic() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=200_000)
    parser.add_argument("--model", default="nodia_stamps")
    told = parser.parse_args()
    rb = [sys.executable, "-m", "rb"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        stack(folder / "stack.npy", told.stamps)
        exported = folder / "model.onnx"
        subprocess.run([*rb, "export", told.model, "--out", str(exported)], check=True)
        for model in (told.model, str(exported)):
            out = folder / f"{Path(model).stem}.parquet"
            words = [*rb, "score", str(folder / "stack.npy"), "--model", model, "--out", str(out)]
            seen, seconds = watch([*words, "--quiet"])
            curve = ", ".join(f"{seen[i * (len(seen) - 1) // 10][1]:,.0f}" for i in range(11))
            print(
                f"{Path(model).name}: {told.stamps:,} stamps in {seconds:.0f} s "
                f"({told.stamps / seconds:,.0f}/s), at most {max(mb for _, mb in seen):,.0f} MB; "
                f"at tenths of the way: {curve}"
            )


if __name__ == "__main__":
    main()
