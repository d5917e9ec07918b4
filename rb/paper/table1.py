"""Table 1 and Figures 5 to 7: the two networks of the paper."""

from __future__ import annotations

import pandas as pd

from rb.errors import UserError
from rb.evaluation.paired import dia_against_nodia
from rb.evaluation.results import RunResult
from rb.paper.parts import KINDS, Line, Part, missing, number, own, section, share
from rb.paper.runs import Experiment, Gathered, Job
from rb.paper.values import TABLE_1, NetworkValues
from rb.report.comparison import decimal, difference_image_sentence, mcnemar_sentence
from rb.report.sections import Picture

_TITLE = "Table 1: accuracy and cost"
_SAYS = (
    "The paper's main result: without the difference image about 5 points of accuracy are lost, "
    "96.1 % with it against 91.1 % without."
)
_ROWS = (
    "accuracy, train",
    "accuracy, test",
    "accuracy, validation",
    "AUC",
    "TPR",
    "TNR",
    "epochs",
    "training, CPU-hours",
    "ms per stamp",
)


def table1_part(gathered: Gathered, pair: Experiment | None) -> Part:
    """Table 1 with intervals, confusion matrices, ROC and training curves of the same runs."""
    jobs = {job.kind: job for job in pair.jobs} if pair else {}
    if not jobs or pair is None:
        paper = ", ".join(f"{KINDS[k]} {share(v.test, v.test_error)}" for k, v in TABLE_1.items())
        return missing("table-1", _TITLE, _SAYS, "paper", "Test accuracy (Table 1)", paper)
    timing = bool(gathered.config["timing"])
    try:
        results = {kind: gathered.result(job, timing) for kind, job in jobs.items()}
        train = {kind: gathered.train_accuracy(job) for kind, job in jobs.items()}
    except UserError as error:
        reason = f"Their runs cannot be scored: {error}"
        return missing("table-1", _TITLE, _SAYS, "paper", "Table 1", "–", reason)
    columns: dict[str, list[str]] = {}
    for kind, result in results.items():
        columns[f"{KINDS[kind]}, paper (DES)"] = _paper(TABLE_1[kind])
        measured = _measured(gathered, jobs[kind], result)
        columns[f"{KINDS[kind]}, here"] = [own(train[kind]), *measured]
    table = pd.DataFrame(columns, index=pd.Index(_ROWS, name=""))
    note = (
        "Train accuracy is measured on the training subset with the kept weights, without "
        "dropout. Validation is that of the epoch whose weights are kept, so it is a little too "
        "high. The paper's CPU-hours are node hours by NERSC's formula, ours the CPU time of all "
        "processes. ms per stamp: the network alone in batches of 200, median ± median deviation."
    )
    both = list(results.values())
    first = section(
        "table-1",
        _TITLE,
        pair,
        [_SAYS, difference_image_sentence(both, gathered.confidence), *_test(both), note],
        tables={"Table 1": table},
    )
    return Part([first, *_figures(results, pair)], _lines(gathered, results, pair))


def _paper(values: NetworkValues) -> list[str]:
    return [
        share(values.train),
        share(values.test, values.test_error),
        share(values.val),
        f"{values.auc:.3f}",
        f"{100 * values.tp / (values.tp + values.fn):.0f} %",
        f"{100 * values.tn / (values.tn + values.fp):.0f} %",
        f"~{values.epochs}",
        f"~{values.cpu_hours:.0f}",
        f"{values.ms:.2f} ± {values.ms_error:.2f}",
    ]


def _measured(gathered: Gathered, job: Job, result: RunResult) -> list[str]:
    metrics = result.metrics(gathered.confidence)
    ms = result.cost_of("ms_per_stamp")
    spread = result.cost_of("ms_per_stamp_mad")
    return [
        own(metrics["accuracy"]),
        own(gathered.validation(job)),
        decimal(metrics["auc"]),
        own(metrics["tpr"]),
        own(metrics["tnr"]),
        number(job.metric("epochs"), 4),
        number(job.metric("cost/train_cpu_hours"), 2),
        f"{ms:.3f} ± {spread:.3f}" if ms == ms else "–",
    ]


def _test(results: list[RunResult]) -> list[str]:
    comparison = dia_against_nodia(results)
    return [mcnemar_sentence(comparison)] if comparison else []


def _figures(results: dict[str, RunResult], pair: Experiment) -> list:
    from rb.figures.classification.confusion import confusion_figure
    from rb.figures.classification.curves import curves_figure
    from rb.figures.classification.roc import roc_figure

    named = {KINDS[kind]: result for kind, result in results.items()}
    confusion = Picture(
        "figure_5_confusion",
        confusion_figure({name: r.confusion() for name, r in named.items()}),
        "Confusion matrices on the test set; percentages are shares of a true label.",
    )
    curve = Picture(
        "figure_6_roc",
        roc_figure({name: r.roc() for name, r in named.items()}),
        "Receiver operating characteristic; circles mark the threshold in use.",
    )
    found = [
        section(
            "figure-5",
            "Figure 5: confusion matrices",
            pair,
            [
                "The paper's networks, on 10,078 real and 9,922 bogus candidates of DES: "
                + "; ".join(_matrix(kind) for kind in results)
                + ". Positive is real."
            ],
            [confusion],
        ),
        section(
            "figure-6",
            "Figure 6: ROC",
            pair,
            [
                "Areas under the curve in the paper: "
                + ", ".join(f"{KINDS[kind]} {TABLE_1[kind].auc:.3f}" for kind in results)
                + "."
            ],
            [curve],
        ),
    ]
    histories = {name: r.history for name, r in named.items() if r.history is not None}
    if histories:
        curves = Picture(
            "figure_7_curves",
            curves_figure(histories),
            "Loss and accuracy over the epochs; dotted: the epoch whose weights are kept.",
        )
        says = (
            "In the paper training takes "
            + " and ".join(f"~{TABLE_1[k].epochs} epochs ({KINDS[k]})" for k in results)
            + ", both reach 90 % without major overfitting, and noDIA takes longer and is noisier."
        )
        found.append(section("figure-7", "Figure 7: training", pair, [says], [curves]))
    return found


def _matrix(kind: str) -> str:
    v = TABLE_1[kind]
    return (
        f"{KINDS[kind]} TP {v.tp:,} ({100 * v.tp / (v.tp + v.fn):.0f} %), "
        f"TN {100 * v.tn / (v.tn + v.fp):.0f} %"
    )


def _lines(gathered: Gathered, results: dict[str, RunResult], pair: Experiment) -> list[Line]:
    lines = []
    for kind, result in results.items():
        metrics = result.metrics(gathered.confidence)
        values, name = TABLE_1[kind], KINDS[kind]
        data = f"{result.data_name}, {result.n_labelled:,}"
        lines += [
            Line(
                f"{name}: test accuracy (Table 1)",
                share(values.test, values.test_error),
                own(metrics["accuracy"]),
                data,
            ),
            Line(f"{name}: AUC (Figure 6)", f"{values.auc:.3f}", decimal(metrics["auc"]), data),
        ]
    return lines
