r"""How like DES are the simulated candidates? Four answers, all measured.

    python benchmarks/realism.py --checkpoint model_checkpoint_AAD_3s3DH.h5 --table features.csv \
        --stamps des_stamps/ --alerts ztf/ --alerts pgir/

(a) A network trained on DES by the paper's authors (their public DIA checkpoint reaches .956 on
DES itself, their checkpoint without the difference image .916) classifies simulated candidates
that it has never seen; and which of its images decides, by the largest share of saliency.

(b) The features of the autoscan table, computed on simulated candidates, beside the real table:
quantiles of both, real and bogus apart, and the Kolmogorov-Smirnov distance of each pair.

(c) A random forest trained on the rows of that table, restricted to the features that the pixels
of a stamp determine by the survey's own definitions, classifies the simulated candidates, beside
its cross-validated score on the rows themselves.

(d) What search image and template look like by themselves, in numbers that no scale or offset
changes (`raw_pixels.py`), beside real stamps: a folder of NumPy archives with arrays ``srch`` and
``tmpl``, such as stamps recovered from published pictures, and alert packets of other surveys,
whose pixels are other ones than DES's.

The default seed is used for nothing else: the survey's parameters were tuned on other seeds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import raw_pixels

import rb
from rb.errors import UserError
from rb.features.autoscan import compute
from rb.models.contract import Scorer
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
        real = {str(path): _archives(path) for path in args.stamps}
        real |= {str(path): _alerts(path, args.cache) for path in args.alerts}
        if real:
            pixels(stamps, rows, real)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="DES-trained model: whatever `rb.load` takes")
    parser.add_argument("--table", type=Path, help="autoscan feature table (CSV)")
    for option, what in (("--stamps", "folder of real stamps (.npz)"), ("--alerts", "alerts")):
        parser.add_argument(
            option, type=Path, action="append", default=[], help=f"{what}; may be given repeatedly"
        )
    parser.add_argument("--per-class", type=int, default=2000, help="candidates of each class")
    parser.add_argument("--seed", type=int, default=20220701, help="seed of the survey")
    parser.add_argument("--processes", type=int, default=None, help="default: all cores")
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache"), help="where simulated sets are kept"
    )
    args = parser.parse_args()
    if not (args.checkpoint or args.table or args.stamps or args.alerts):
        parser.error("give --checkpoint, --table, --stamps or --alerts")
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


def classify(checkpoint: str, stamps: StampSet, rows: np.ndarray) -> None:
    """Print what the DES-trained network makes of simulated candidates."""
    from rb.metrics.auc import auc

    model = rb.load(checkpoint)
    p_real = model.score(stamps, rows)
    labels = stamps.labels[rows]
    is_real = labels == REAL
    called_real = p_real >= model.threshold
    right = called_real == is_real
    accuracy = right.mean()
    error = np.sqrt(accuracy * (1 - accuracy) / len(rows))
    area = auc(is_real, p_real)
    print(f"(a) {checkpoint}, trained on DES, on simulated candidates")
    print(f"    inputs   {', '.join(getattr(model.inputs, 'channels', ()))}")
    print(f"    accuracy {accuracy:.4f} ± {1.96 * error:.4f}")
    print(f"    AUC      {area.value:.4f} ({area.low:.4f} to {area.high:.4f})")
    print(f"    real found {right[is_real].mean():.4f}   bogus found {right[~is_real].mean():.4f}")
    kinds = stamps.catalogue["kind"].to_numpy()[rows]
    table = pd.DataFrame({"kind": kinds, "right": right}).groupby("kind")["right"]
    print("    share classified rightly, by what is behind the detection:")
    for kind, values in sorted(table, key=lambda item: -len(item[1])):
        print(f"      {kind:16s} {len(values):5d}  {values.mean():.3f}")
    if model.network is not None:
        deciders(model, stamps, rows, called_real)
    print()


def deciders(model: Scorer, stamps: StampSet, rows: np.ndarray, called_real: np.ndarray) -> None:
    """Print how often each image holds the largest share of saliency, beside DES."""
    from rb.explain.attribution import Explainer
    from rb.explain.shares import QUADRANT_NAMES, groups, panel_shares
    from rb.paper.values import WINNER_COUNTS

    explainer = Explainer.of(model)
    shares = np.concatenate(
        [
            panel_shares(explainer.attribute(explainer.panels(stamps[part])))
            for part in np.array_split(rows, max(1, len(rows) // 500))
        ]
    )
    known = np.isfinite(shares).all(axis=1)
    winner = np.where(known, np.nan_to_num(shares).argmax(axis=1), -1)
    quadrant = groups(stamps.labels[rows], called_real)
    published = WINNER_COUNTS["dia" if "diff" in explainer.channels else "nodia"]
    print("    image with the largest share of saliency, % (in brackets: DES, the authors' model)")
    for name in QUADRANT_NAMES:
        here = (quadrant == name) & known
        if not here.any():
            continue
        total = sum(published[name].values())
        parts = [
            f"{channel} {100 * np.mean(winner[here] == i):5.1f} "
            f"({100 * published[name][channel] / total:.1f})"
            for i, channel in enumerate(explainer.channels)
        ]
        print(f"      {name} {here.sum():5d}  {'   '.join(parts)}")


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


def _archives(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Search images and templates of all NumPy archives in a folder."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise UserError(f"{folder}: no .npz files; give a folder of them after --stamps")
    pairs = []
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as archive:
                pairs.append((archive["srch"], archive["tmpl"]))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file}: no stamps named srch and tmpl ({error})") from error
    search, template = zip(*pairs, strict=True)
    return np.stack(search), np.stack(template)


def _alerts(folder: Path, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Search images and templates of the alert packets in a folder, as they come."""
    import yaml

    from rb.config import project_root
    from rb.sources.alerts.source import open_stamps
    from rb.stamps.layout import CHANNELS

    text = (project_root() / "conf" / "data" / "alerts.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text) | {"root": str(folder), "cache": str(cache)}
    config |= {"stamp_size": None, "survey": None}
    stamps = open_stamps(config, progress=False)
    every = stamps[np.arange(len(stamps))]
    where = {name: i for i, name in enumerate(stamps.meta.get("channels", CHANNELS))}
    return every[:, where["srch"]], every[:, where["tmpl"]]


def pixels(
    stamps: StampSet, rows: np.ndarray, real: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Print statistics of search images and templates, simulated and real."""
    few = rows[:: max(1, len(rows) // 600)]
    simulated = stamps[few]
    ours = raw_pixels.measure(simulated[:, 1], simulated[:, 2])
    theirs = {name: raw_pixels.measure(*pair) for name, pair in real.items()}
    print(
        f"\n(d) search image and template by themselves: quantiles of {len(ours)} simulated pairs;"
    )
    print("    of real ones the median, and in brackets how many of those that tell lie between")
    print("    the simulated 5 and 95 % quantiles")
    for i, name in enumerate(real):
        print(f"    [{i + 1}] {name}: {len(theirs[name])} pairs")
    heads = "".join(f"{round(100 * q):>9d} %" for q in QUANTILES)
    print(f"    {'':20s} {heads}   " + "".join(f"{f'[{i + 1}]':>20s}" for i in range(len(real))))
    for column in ours:
        low, *_, high = limits = ours[column].quantile(list(QUANTILES))
        line = "".join(_number(v) for v in limits)
        for table in theirs.values():
            values = table[column].dropna()
            inside = f"({values.between(low, high).sum()} of {len(values)})"
            line += f"{_number(values.median())} {inside}".rjust(20)
        print(f"    {column:20s} {line}")
    print("    where " + "; ".join(f"{name}: {what}" for name, what in raw_pixels.WHAT.items()))


def _number(value: float) -> str:
    return f"{value:11.1f}" if abs(value) >= 1000 else f"{value:11.3g}"


if __name__ == "__main__":
    sys.exit(main())
