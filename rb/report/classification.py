"""The standard sections of a classification: what to draw of some results, and what to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rb.evaluation.paired import dia_against_nodia, pair, same_candidates, same_set
from rb.evaluation.results import RunResult, unique_names
from rb.figures.style import LABEL_WORDS
from rb.io.files import safe_name
from rb.metrics.binned import calibration_bins, rates_by_property
from rb.metrics.classification import UNKNOWN
from rb.report.examples import Reader, examples_page
from rb.report.sections import SMALL, Picture, Section

_MOST_RUNS = 8  # lines that a figure can hold apart; the best by validation are drawn
_EXAMPLES_OF = 2  # runs whose right and wrong stamps are shown
_LOGARITHMIC = ("SNR",)


def standard_sections(
    results: Sequence[RunResult],
    *,
    read: Reader | None = None,
    properties: Mapping[str, np.ndarray] | None = None,
    examples: int = 12,
    seed: int = 0,
) -> list[Section]:
    """Everything that can be shown of these results, in the order of a report.

    ROC and trade-off, confusion matrices, scores and calibration, completeness and purity,
    training curves, stamps right and wrong, stamps that only the run with the difference
    image gets right. A section for which something is missing (labels, properties, stamps,
    histories) is left out. A set of up to `SMALL` stamps is shown whole, stamp by stamp,
    instead of as curves. Of more than eight runs the best by validation are drawn.

    Parameters
    ----------
    results
        The runs. Stamps and `properties` are those of the first one; runs that scored others
        are left out of the figures that need them.
    read
        Reads stamps by their row in ``results[0].ids``; None where there are none.
    properties
        By axis label ("magnitude", "SNR"): values (n,) in the same order.
    examples
        Stamps a page.
    seed
        Of the choice of examples.
    """
    if not results:
        return []
    shown = dict(zip(unique_names(results), results, strict=True))
    if len(shown) > _MOST_RUNS:
        shown = _best(shown, _MOST_RUNS)
    labelled = {name: r for name, r in shown.items() if r.n_labelled}
    first = results[0]
    alike = {name: r for name, r in labelled.items() if same_candidates(r, first)}
    sections: list[Section | None]
    if first.n <= SMALL:
        # Curves and histograms of a handful of stamps show nothing but noise.
        sections = [_all_stamps(shown, first, read), _confusion(labelled), _training(shown)]
    else:
        sections = [
            _ranking(labelled),
            _confusion(labelled),
            _scores(shown),
            _completeness(alike, properties or {}),
            _training(shown),
        ]
        if read is not None and examples > 0:
            sections.append(_rescued(results, first, read, examples, seed))
            networks = {name: r for name, r in alike.items() if r.sees_stamps}
            chosen = _best(networks or alike, _EXAMPLES_OF, one_of_each_kind=True)
            sections += [
                _examples(name, result, read, examples, seed) for name, result in chosen.items()
            ]
    return [section for section in sections if section is not None]


def _ranking(results: Mapping[str, RunResult]) -> Section | None:
    from rb.figures.classification.roc import roc_figure, tradeoff_figure

    curves = {name: result.roc() for name, result in results.items()}
    both = {name: c for name, c in curves.items() if not np.isnan(c.fpr + c.tpr).any()}
    if not both:
        return None
    return Section(
        "roc",
        "ROC",
        ["A better classifier lies further to the upper left, whatever the threshold."],
        [
            Picture(
                "roc",
                roc_figure(both),
                "Receiver operating characteristic; the circles mark the threshold in use, the "
                "inset enlarges the corner (paper, Figure 6).",
            ),
            Picture(
                "tradeoff",
                tradeoff_figure(both),
                "The same curves as the two errors against each other; dotted lines at the "
                "fixed rates of the table.",
            ),
        ],
    )


def _confusion(results: Mapping[str, RunResult]) -> Section | None:
    from rb.figures.classification.confusion import confusion_figure

    if not results:
        return None
    matrices = {name: result.confusion() for name, result in results.items()}
    caption = (
        "Confusion matrices at the threshold in use; percentages are shares of a true label. "
        "Right in blue, wrong in orange, darker for truly real (paper, Figure 5)."
    )
    picture = Picture("confusion", confusion_figure(matrices), caption)
    return Section("confusion", "Right and wrong", pictures=[picture])


def _scores(results: Mapping[str, RunResult]) -> Section | None:
    from rb.figures.classification.scores import calibration_figure, score_figure

    scores = {name: (r.labels, r.p_real) for name, r in results.items()}
    thresholds = {name: r.threshold for name, r in results.items()}
    # Panels side by side stay readable up to three.
    few = dict(list(scores.items())[:3])
    pictures = [
        Picture("scores", score_figure(few, thresholds), "Scores by class, logarithmic counts.")
    ]
    bins = {
        name: calibration_bins(*scores[name], 10) for name, r in results.items() if r.n_labelled
    }
    if bins:
        caption = (
            "Calibration: on the diagonal a p_real of 0.8 means that 8 of 10 such stamps are "
            "real. Bars are 95 % Wilson intervals; below, the stamps behind each point."
        )
        pictures.append(Picture("calibration", calibration_figure(bins), caption))
    return Section("scores", "Scores and calibration", pictures=pictures)


def _completeness(
    results: Mapping[str, RunResult], properties: Mapping[str, np.ndarray]
) -> Section | None:
    from rb.figures.classification.completeness import completeness_figure

    useful = {name: v for name, v in properties.items() if np.isfinite(v.astype(float)).any()}
    if not results or not useful:
        return None
    rates = rates_by_property(
        useful,
        next(iter(results.values())).labels,
        {name: result.p_real for name, result in results.items()},
        {name: result.threshold for name, result in results.items()},
        _LOGARITHMIC,
    )
    figure = completeness_figure(rates, _LOGARITHMIC)
    caption = (
        f"Completeness (left) and purity (right) against {' and '.join(useful)}, with 95 % "
        "Wilson intervals; grey bars: stamps a bin."
    )
    return Section(
        "completeness",
        "Completeness and purity",
        ["Purity depends on the share of real candidates in the set, completeness does not."],
        [Picture("completeness", figure, caption)],
    )


def _training(results: Mapping[str, RunResult]) -> Section | None:
    from rb.figures.classification.curves import curves_figure

    histories = {
        name: r.history
        for name, r in results.items()
        if r.history is not None and len(r.history) and r.sees_stamps
    }
    if not histories:
        return None
    names = list(histories)
    pictures = []
    for start in range(0, len(names), 2):
        some = {name: histories[name] for name in names[start : start + 2]}
        key = "curves" if start == 0 else f"curves_{start // 2 + 1}"
        caption = "Loss and accuracy over the epochs; dotted: the epoch whose weights are kept."
        pictures.append(Picture(key, curves_figure(some), f"{caption} (Paper, Figure 7.)"))
    return Section("training", "Training", pictures=pictures)


def _all_stamps(
    results: Mapping[str, RunResult],
    first: RunResult,
    read: Reader | None,
) -> Section:
    """Every stamp of a small set with every score."""
    import pandas as pd

    from rb.figures.data.stamps import stamp_page
    from rb.figures.style import INK, RIGHT_COLOR, WRONG_COLOR

    words = [LABEL_WORDS.get(label, "–") for label in first.labels.tolist()]
    table = pd.DataFrame(
        {"label": words},
        index=pd.Index(first.ids, name="id"),
    )
    results = {name: r for name, r in results.items() if same_set(r, first)}
    for name, result in results.items():
        table[name] = pd.Series(result.p_real, index=result.ids).reindex(first.ids).to_numpy()
    if read is None:
        return Section("stamps", "All stamps", tables={"p_real of each stamp": table})
    right = (first.p_real >= first.threshold) == (first.labels == 0)
    colors = [
        INK if label == UNKNOWN else (RIGHT_COLOR if ok else WRONG_COLOR)
        for label, ok in zip(first.labels, right, strict=True)
    ]
    titles = [
        f"{one}   {word}   p_real {p:.3f}"
        for one, word, p in zip(first.ids, words, first.p_real, strict=True)
    ]
    page = stamp_page(read(np.arange(first.n)), titles, columns=2, colors=colors)
    caption = f"All stamps with their label and p_real of {next(iter(results))}; orange: wrong."
    return Section(
        "stamps",
        "All stamps",
        pictures=[Picture("stamps", page, caption, pixels=True)],
        tables={"p_real of each stamp": table},
    )


def _rescued(
    results: Sequence[RunResult],
    first: RunResult,
    read: Reader,
    examples: int,
    seed: int,
) -> Section | None:
    """Stamps that the better run with the difference image alone gets right."""
    from rb.figures.data.stamps import stamp_page

    comparison = dia_against_nodia(results)
    if comparison is None or not same_set(comparison.first, first):
        return None
    paired = pair(comparison.first, comparison.second)
    is_real = paired.labels == 0
    dia_right = (paired.p_first >= comparison.first.threshold) == is_real
    nodia_right = (paired.p_second >= comparison.second.threshold) == is_real
    found = np.flatnonzero(
        dia_right & ~nodia_right & (paired.labels != UNKNOWN) & np.isin(paired.ids, first.ids)
    )
    if not found.size:
        return None
    some = np.random.default_rng(seed).permutation(found)[:examples]
    position = {one: row for row, one in enumerate(first.ids.tolist())}
    rows = np.array([position[one] for one in paired.ids[some].tolist()])
    order = np.argsort(rows)  # the order on the disk
    rows, some = rows[order], some[order]
    titles = [
        f"{paired.ids[k]}   {'real' if is_real[k] else 'bogus'}   "
        f"{paired.p_first[k]:.2f} | {paired.p_second[k]:.2f}"
        for k in some
    ]
    page = stamp_page(read(rows), titles)
    caption = (
        f"Label, p_real of {comparison.first.name} | of {comparison.second.name}: "
        f"{some.size} of the {comparison.only_first:,} stamps that only the former calls "
        "rightly, drawn at random. Search and template share a grey scale; the difference runs "
        "from blue (negative) to red."
    )
    return Section(
        "rescued",
        "What the difference image decides",
        [
            f"{comparison.only_first:,} stamps are called rightly only with the difference image, "
            f"{comparison.only_second:,} only without it."
        ],
        [Picture("rescued", page, caption, pixels=True)],
    )


def _examples(
    name: str,
    result: RunResult,
    read: Reader,
    examples: int,
    seed: int,
) -> Section:
    key = safe_name(name)
    captions = {
        "FN": "The real transients that it is surest are bogus.",
        "FP": "The bogus ones that it is surest are real.",
        "TP": "Real ones called real, at random.",
        "TN": "Bogus ones called bogus, at random.",
    }
    pictures = []
    for quadrant, caption in captions.items():
        choose = "extreme" if quadrant in ("FN", "FP") else "random"
        figure = examples_page(read, result, quadrant, examples, choose, seed)  # type: ignore[arg-type]
        pictures.append(Picture(f"examples_{key}_{quadrant}", figure, caption, pixels=True))
    note = (
        ["It does not see the difference image, which is shown for the reader."]
        if result.inputs == "nodia"
        else []
    )
    return Section(f"examples-{key}", f"Examples: {name}", note, pictures)


def _best(
    results: Mapping[str, RunResult], n: int, one_of_each_kind: bool = False
) -> dict[str, RunResult]:
    """The `n` runs with the best validation accuracy, in the order they came."""
    ranked = sorted(results, key=lambda name: results[name].validation_accuracy, reverse=True)
    if one_of_each_kind:
        best = {results[name].inputs: name for name in reversed(ranked)}
        ranked = [name for name in ranked if name in best.values()]
    keep = set(ranked[:n])
    return {name: result for name, result in results.items() if name in keep}
