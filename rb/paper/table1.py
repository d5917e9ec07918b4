"""Table 1 and Figures 5 to 7: the two networks of the paper."""

from __future__ import annotations

import pandas as pd

from rb.errors import UserError
from rb.evaluation.paired import dia_against_nodia
from rb.evaluation.results import RunResult
from rb.metrics.numbers import decimal, percent, significant
from rb.paper.parts import Line, Part, Topic, section, share
from rb.paper.runs import Experiment, Job, PaperRuns
from rb.paper.values import N_TEST, NETWORKS, TABLE_1, NetworkValues
from rb.report.comparison import difference_image_sentence, mcnemar_sentence
from rb.report.sections import Picture

_TOPIC = Topic(
    "table-1",
    "Table 1: accuracy and cost",
    "The paper's main result: without the difference image about 5 points of accuracy are lost, "
    f"{share(TABLE_1['dia'].test)} with it against {share(TABLE_1['nodia'].test)} without.",
    "paper",
    "Test accuracy (Table 1)",
    ", ".join(f"{NETWORKS[k]} {share(v.test, v.test_error)}" for k, v in TABLE_1.items()),
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


def table1_part(runs: PaperRuns, pair: Experiment | None) -> Part:
    """Table 1 with intervals, confusion matrices, ROC and training curves of the same runs."""
    jobs = {job.inputs: job for job in pair.jobs} if pair else {}
    if not jobs or pair is None:
        return _TOPIC.missing()
    timing = bool(runs.config["timing"])
    try:
        results = {inputs: runs.result(job, timing) for inputs, job in jobs.items()}
        train = {inputs: runs.train_accuracy(job) for inputs, job in jobs.items()}
    except UserError as error:
        return _TOPIC.missing(f"Their runs cannot be scored: {error}")
    columns: dict[str, list[str]] = {}
    for inputs, result in results.items():
        columns[f"{NETWORKS[inputs]}, paper (DES)"] = _paper(TABLE_1[inputs])
        measured = _measured(runs, jobs[inputs], result)
        columns[f"{NETWORKS[inputs]}, here"] = [percent(train[inputs]), *measured]
    table = pd.DataFrame(columns, index=pd.Index(_ROWS, name=""))
    note = (
        "Train accuracy is measured on the training subset with the kept weights, without "
        "dropout. Validation is that of the epoch whose weights are kept, so it is a little too "
        "high. The paper's CPU-hours are node hours by NERSC's formula, ours the CPU time of all "
        "processes. ms per stamp: the network alone in batches of 200, median ± median deviation."
    )
    both = list(results.values())
    comparison = dia_against_nodia(both)
    texts = [difference_image_sentence(both, runs.confidence)]
    texts += [mcnemar_sentence(comparison)] if comparison else []
    first = _TOPIC.section(pair, [*texts, note], tables={"Table 1": table})
    return Part([first, *_figures(results, pair)], _lines(runs, results, pair))


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


def _measured(runs: PaperRuns, job: Job, result: RunResult) -> list[str]:
    metrics = result.metrics(runs.confidence)
    ms = result.cost_of("ms_per_stamp")
    spread = result.cost_of("ms_per_stamp_mad")
    return [
        percent(metrics["accuracy"]),
        percent(runs.validation(job)),
        decimal(metrics["auc"]),
        percent(metrics["tpr"]),
        percent(metrics["tnr"]),
        significant(job.metric("epochs"), 4),
        significant(job.metric("cost/train_cpu_hours"), 2),
        f"{ms:.3f} ± {spread:.3f}" if ms == ms else "–",
    ]


def _figures(results: dict[str, RunResult], pair: Experiment) -> list:
    from rb.figures.classification.confusion import confusion_figure
    from rb.figures.classification.curves import curves_figure
    from rb.figures.classification.roc import roc_figure

    named = {NETWORKS[inputs]: result for inputs, result in results.items()}
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
                f"The paper's networks, on {N_TEST['real']:,} real and {N_TEST['bogus']:,} bogus "
                "candidates of DES: "
                + "; ".join(_matrix(inputs) for inputs in results)
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
                + ", ".join(f"{NETWORKS[inputs]} {TABLE_1[inputs].auc:.3f}" for inputs in results)
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
            + " and ".join(f"~{TABLE_1[k].epochs} epochs ({NETWORKS[k]})" for k in results)
            + ", both reach 90 % without major overfitting, and noDIA takes longer and is noisier."
        )
        found.append(section("figure-7", "Figure 7: training", pair, [says], [curves]))
    return found


def _matrix(inputs: str) -> str:
    v = TABLE_1[inputs]
    return (
        f"{NETWORKS[inputs]} TP {v.tp:,} ({100 * v.tp / (v.tp + v.fn):.0f} %), "
        f"TN {100 * v.tn / (v.tn + v.fp):.0f} %"
    )


def _lines(runs: PaperRuns, results: dict[str, RunResult], pair: Experiment) -> list[Line]:
    lines = []
    for inputs, result in results.items():
        metrics = result.metrics(runs.confidence)
        values, name = TABLE_1[inputs], NETWORKS[inputs]
        data = f"{result.data_name}, {result.n_labelled:,}"
        lines += [
            Line(
                f"{name}: test accuracy (Table 1)",
                share(values.test, values.test_error),
                percent(metrics["accuracy"]),
                data,
            ),
            Line(f"{name}: AUC (Figure 6)", f"{values.auc:.3f}", decimal(metrics["auc"]), data),
        ]
    return lines
