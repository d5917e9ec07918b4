"""How like DES are the simulated candidates? Three answers, all measured.

    python benchmarks/realism.py --checkpoint model_checkpoint_AAD_3s3DH.h5 --table features.csv

(a) A network trained on DES by the paper's authors (their public DIA checkpoint, which reaches
.956 on DES itself) classifies simulated candidates that it has never seen.

(b) The features of the autoscan table, computed on simulated candidates, beside the real table:
quantiles of both, real and bogus apart, and the Kolmogorov-Smirnov distance of each pair.

(c) A random forest trained on the rows of that table, restricted to the features that the pixels
of a stamp determine by the survey's own definitions, classifies the simulated candidates, beside
its cross-validated score on the rows themselves.

The default seed is used for nothing else: the survey's parameters were tuned on other seeds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import rb
from rb.errors import UserError
from rb.features.autoscan import compute
from rb.sources.simulated import build
from rb.stamps.stampset import BOGUS, REAL, StampSet

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CATALOGUE = {
    "SNR": "snr",
    "MAG": "mag",
    "MAG_REF": "mag_ref",
    "MAG_REF_ERR": "mag_ref_err",
    "MAGDIFF": "magdiff",
    "A_IMAGE": "a_image",
    "B_IMAGE": "b_image",
    "ELLIPTICITY": "ellipticity",
    "A_REF": "a_ref",
    "B_REF": "b_ref",
    "NN_DIST_RENORM": "nn_dist_arcsec",
    "MASKFRAC": "mask_fraction",
}
"""Features that the pipeline measures, as columns of the simulated catalogue."""

STAMPS = (
    *("FLUX_RATIO", "NUMNEGRN", "DIFFSUMRN", "N2SIG3", "N2SIG5", "N3SIG3", "N3SIG5"),
    *("N2SIG3SHIFT", "N2SIG5SHIFT", "N3SIG3SHIFT", "N3SIG5SHIFT"),
    *("GAUSS", "SCALE", "AMP", "COLMEDS", "LACOSMIC", "L1"),
)
"""Features that follow from the stamps."""


def main() -> int:
    args = _arguments()
    try:
        stamps = _candidates(args)
        rows = _first_of_each(stamps.labels, args.per_class)
        print(f"{len(rows)} candidates, half real, of seed {args.seed}: {stamps.path}\n")
        if args.checkpoint:
            classify(args.checkpoint, stamps, rows)
        if args.table:
            compare(args.table, stamps, rows)
            forest(args.table, stamps, rows)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="DES-trained Keras checkpoint (HDF5)")
    parser.add_argument("--table", type=Path, help="autoscan feature table (CSV)")
    parser.add_argument("--per-class", type=int, default=2000, help="candidates of each class")
    parser.add_argument("--seed", type=int, default=20220701, help="seed of the survey")
    parser.add_argument("--processes", type=int, default=None, help="default: all cores")
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache"), help="where simulated sets are kept"
    )
    args = parser.parse_args()
    if not args.checkpoint and not args.table:
        parser.error("give --checkpoint, --table or both")
    return args


def _candidates(args: argparse.Namespace) -> StampSet:
    """A set with enough of both classes; grown until it has them."""
    candidates = int(2.2 * args.per_class) + 1
    while True:
        config = {"candidates": candidates, "seed": args.seed}
        stamps = build(config, args.cache, processes=args.processes)
        fewest = min(int(np.sum(stamps.labels == label)) for label in (REAL, BOGUS))
        if fewest >= args.per_class:
            return stamps
        candidates = int(candidates * 1.05 * args.per_class / max(fewest, 1)) + 1


def _first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of the first `count` real and the first `count` bogus candidates, in order."""
    chosen = [np.flatnonzero(labels == label)[:count] for label in (REAL, BOGUS)]
    return np.sort(np.concatenate(chosen))


def classify(checkpoint: Path, stamps: StampSet, rows: np.ndarray) -> None:
    """Print what the DES-trained network makes of simulated candidates."""
    from rb.metrics.auc import auc

    p_real = rb.load(checkpoint).score(stamps, rows)
    labels = stamps.labels[rows]
    is_real = labels == REAL
    right = (p_real > 0.5) == is_real
    accuracy = right.mean()
    error = np.sqrt(accuracy * (1 - accuracy) / len(rows))
    area = auc(is_real, p_real)
    print(f"(a) {checkpoint.name}, trained on DES, on simulated candidates")
    print(f"    accuracy {accuracy:.4f} ± {1.96 * error:.4f}   (on DES itself .956)")
    print(f"    AUC      {area.value:.4f} ({area.low:.4f} to {area.high:.4f})")
    print(f"    real found {right[is_real].mean():.4f}   bogus found {right[~is_real].mean():.4f}")
    kinds = stamps.catalogue["kind"].to_numpy()[rows]
    table = pd.DataFrame({"kind": kinds, "right": right}).groupby("kind")["right"]
    print("    share classified rightly, by what is behind the detection:")
    for kind, values in sorted(table, key=lambda item: -len(item[1])):
        print(f"      {kind:16s} {len(values):5d}  {values.mean():.3f}")
    print()


def forest(path: Path, stamps: StampSet, rows: np.ndarray) -> None:
    """Print what a forest trained on real DES rows makes of simulated candidates."""
    from rb.evaluation.cross_validation import crossvalidate
    from rb.features import PIXEL_FEATURES
    from rb.features.table import read_table
    from rb.metrics.classification import evaluate_scores
    from rb.models.forest.learners import AutoscanForest

    table = read_table(path).labelled().restricted(PIXEL_FEATURES)
    p_real = AutoscanForest(features=PIXEL_FEATURES).fit(table).predict(compute(stamps[rows]))
    own = crossvalidate(table, "forest", folds=5, features=PIXEL_FEATURES)
    print(f"\n(c) forest of {len(PIXEL_FEATURES)} pixel features, trained on {len(table)} DES rows")
    for what, scores in (
        ("on simulated candidates", evaluate_scores(stamps.labels[rows], p_real)),
        ("on DES, 5-fold", own.metrics()),
    ):
        accuracy, area = scores["accuracy"], scores["auc"]
        print(
            f"    {what:24s} "
            f"accuracy {accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})   "
            f"AUC {area.value:.4f} ({area.low:.4f} to {area.high:.4f})"
        )


def compare(path: Path, stamps: StampSet, rows: np.ndarray) -> None:
    """Print quantiles and distances of simulated and real features."""
    from scipy.stats import ks_2samp

    try:
        real = pd.read_csv(path, comment="#")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable feature table ({error})") from error
    missing = {"OBJECT_TYPE", *CATALOGUE, *STAMPS} - set(real.columns)
    if missing:
        raise UserError(f"{path}: the table lacks {', '.join(sorted(missing))}")
    # 99 stands for "not measured".
    real["MAG_REF"] = real["MAG_REF"].where(real["MAG_REF"] < 90)
    catalogue = stamps.catalogue.iloc[rows].reset_index(drop=True)
    ours = compute(stamps[rows])[list(STAMPS)]
    for feature, column in CATALOGUE.items():
        ours[feature] = catalogue[column].to_numpy()
    labels = stamps.labels[rows]

    print(f"(b) features: simulated (S) and {path.name} (D); KS is the largest distance between")
    print("    the two cumulative distributions")
    heads = "".join(f"{round(100 * q):>9d} %" for q in QUANTILES)
    print(f"    {'feature':15s} {'class':5s}   {heads}     KS   missing")
    distances: dict[int, list[float]] = {REAL: [], BOGUS: []}
    for feature in (*CATALOGUE, *STAMPS):
        for label, name in ((REAL, "real"), (BOGUS, "bogus")):
            both = {
                "S": ours.loc[labels == label, feature],
                "D": real.loc[real["OBJECT_TYPE"] == label, feature],
            }
            distance = ks_2samp(both["S"].dropna(), both["D"].dropna()).statistic
            distances[label].append(distance)
            for source, values in both.items():
                numbers = "".join(_number(v) for v in values.quantile(list(QUANTILES)))
                tail = f"{distance:7.3f}" if source == "S" else 7 * " "
                print(
                    f"    {feature:15s} {name:5s} {source} {numbers} {tail}   "
                    f"{values.isna().mean():.3f}"
                )
    for label, name in ((REAL, "real"), (BOGUS, "bogus")):
        values = distances[label]
        print(
            f"    KS over {len(values)} features, {name}: "
            f"mean {np.mean(values):.3f}, median {np.median(values):.3f}, "
            f"largest {np.max(values):.3f}"
        )


def _number(value: float) -> str:
    return f"{value:11.1f}" if abs(value) >= 1000 else f"{value:11.3g}"


if __name__ == "__main__":
    sys.exit(main())
