"""What the paper varied: stacking, folds, other networks, length of training, scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.evaluation.paired import compare
from rb.metrics.intervals import Estimate
from rb.metrics.numbers import number, p_value, percent, points, significant
from rb.paper.parts import Line, Part, Topic, part, share
from rb.paper.runs import Experiment, Job, PaperRuns
from rb.paper.values import (
    BACKBONE_NAMES,
    BACKBONES,
    FOLDS_MEAN,
    FOLDS_STD,
    LONGER_EPOCHS,
    NETWORKS,
    RICHER,
    STACKING_TNR_LOSS,
    TABLE_1,
)
from rb.report.sections import Picture, Section

_PAIRED = (
    "The column with a minus: difference of the test accuracies in points, the same candidates, "
    "with its interval and the p-value of McNemar's exact test."
)
_PLAIN = "Table 4 (the paper's noDIA)"


@part(
    Topic(
        "figure-14",
        "Figure 14: images stacked in depth",
        f"Fed with 51x51x3 instead of 51x153, the paper's DIA network calls about "
        f"{100 * STACKING_TNR_LOSS:.0f} % fewer bogus ones rightly (TN) and is otherwise as good; "
        "without the difference (51x51x2) nothing is gained either.",
        "stacking",
        "Depth against horizontal stacking (Figure 14)",
        f"TN −{100 * STACKING_TNR_LOSS:.0f} point, else equal",
    )
)
def stacking_part(runs: PaperRuns, found: Experiment, topic: Topic) -> Part:
    """Figure 14: the images as channels instead of side by side."""
    jobs = sorted(found.jobs, key=_stacked, reverse=True)  # as the paper: side by side first
    jobs.sort(key=lambda job: job.inputs)
    try:
        results = {_stacked(job): runs.result(job) for job in jobs}
    except UserError as error:
        return topic.missing(f"Its runs cannot be scored: {error}")
    from rb.figures.classification.confusion import confusion_figure

    table = _table(runs, jobs, {"network": [_stacked(job) for job in jobs]})
    texts, lines, pictures = [], [], []
    for inputs, name in NETWORKS.items():
        matrices = {n: r.confusion() for n, r in results.items() if r.inputs == inputs}
        if matrices:
            caption = f"{name}: confusion matrices on the test set, shares of a true label."
            picture = Picture(f"figure_14_confusion_{inputs}", confusion_figure(matrices), caption)
            pictures.append(picture)
        pair = [results.get(f"{name}, {stacking}") for stacking in ("depth", "horizontal")]
        if pair[0] is None or pair[1] is None:
            continue
        test = compare(pair[0], pair[1], runs.confidence)
        texts.append(
            f"{name}, depth minus horizontal, the same candidates: accuracy "
            f"{_points(test.accuracy)}, TPR {_points(test.tpr)}, TNR {_points(test.tnr)}; "
            f"McNemar's exact test {p_value(test.mcnemar_p)}."
        )
        paper = topic.paper if inputs == "dia" else "no improvement"
        ours = f"TN {_points(test.tnr)}, accuracy {_points(test.accuracy)}"
        lines.append(Line(f"{name}: depth minus horizontal (Figure 14)", paper, ours, found.data))
    return Part(
        [topic.section(found, texts, pictures, {"By stacking": table})],
        lines or [Line(topic.what, topic.paper, "only one of the two", found.data)],
    )


def _stacked(job: Job) -> str:
    return f"{NETWORKS.get(job.inputs, job.inputs)}, {job.run.data.tags.get('stacking', '?')}"


@part(
    Topic(
        "folds",
        "Section 4.3: cross-validation",
        "Six-fold cross-validation of noDIA: the paper's test accuracy is "
        f"{share(FOLDS_MEAN, FOLDS_STD)} (mean ± sd).",
        "folds",
        "noDIA: six-fold test accuracy",
        share(FOLDS_MEAN, FOLDS_STD),
    )
)
def folds_part(runs: PaperRuns, found: Experiment, topic: Topic) -> Part:
    """Section 4.3: six-fold cross-validation of noDIA."""
    from rb.figures.studies.sweep import folds_figure

    texts, lines, groups, tables = [], [], {}, {}
    for name in dict.fromkeys(job.name for job in found.jobs):
        jobs = [job for job in found.jobs if job.name == name]
        test = [runs.accuracy(job) for job in jobs]
        folds = [job.number("split.fold") for job in jobs]
        known = np.array([e.value for e in test if e.defined])
        tables[f"Folds of {name}"] = _table(runs, jobs, {"fold": [str(fold) for fold in folds]})
        spread = (known.mean(), known.std(ddof=1)) if known.size > 1 else None
        groups[name] = {
            "fold": folds,
            "validation": [job.metric("best/val_acc") for job in jobs],
            "test": [e.value if e.defined else None for e in test],
            "spread": spread,
        }
        if spread is None:
            continue
        wanted = jobs[0].number("split.folds")
        ours = f"{100 * spread[0]:.2f} ± {100 * spread[1]:.2f} %"
        name = NETWORKS.get(name, name)
        texts.append(
            f"{name}, {known.size} of {wanted} folds: {ours} (mean ± sd of the folds, which holds "
            "the scatter of training as well as that of the test sets; each candidate is in one)."
        )
        lines.append(Line(f"{name}: {wanted}-fold test accuracy", topic.paper, ours, found.data))
    picture = Picture(
        "folds",
        folds_figure(groups),
        "Accuracy of each fold; the band is mean ± sd of the test accuracies.",
    )
    return Part(
        [topic.section(found, texts, [picture], tables)],
        lines or [Line(topic.what, topic.paper, "too few folds", found.data)],
    )


@part(
    Topic(
        "richer",
        "Tables 6 to 9: richer networks",
        "To make up for the difference image the paper gave noDIA more layers: "
        + "; ".join(f"Table {table}: {what}" for table, what in RICHER.items())
        + ". None was better than the plain network.",
        "richer",
        "Richer noDIA networks (Tables 6–9)",
        "no gain",
    )
)
def richer_part(runs: PaperRuns, found: Experiment, topic: Topic) -> Part:
    """Tables 6 to 9: noDIA with more layers."""
    names = [_richer_name(job) for job in found.jobs]
    accuracies = dict(zip(names, (runs.accuracy(job) for job in found.jobs), strict=True))
    base = accuracies.pop(_PLAIN, None)
    plain = "" if base is None else f", plain {percent(base)}"
    lines = [
        Line(f"noDIA, {name}", topic.paper, percent(accuracy) + plain, found.data)
        for name, accuracy in accuracies.items()
    ]
    table = _table(
        runs,
        found.jobs,
        {"network": names},
        base=lambda job: _richer_name(job) == _PLAIN,
        named="Table 4",
    )
    return Part([_compared(runs, found, topic, names, table, topic.title)], lines)


def _richer_name(job: Job) -> str:
    """Which table of the paper a network is that of, by its layers."""
    known = {
        (3, (32,)): _PLAIN,
        (3, (32, 24, 16, 8)): "Table 6",
        (3, (1200, 800, 400, 160, 80, 32, 24, 16, 8)): "Table 7",
        (5, (32,)): "Table 8",
        (5, (32, 24, 16, 8)): "Table 9",
    }
    return known.get((len(job.kernels), tuple(job.dense)), job.name)


@part(
    Topic(
        "longer",
        "Section 5: longer training",
        f"After {LONGER_EPOCHS} epochs noDIA showed no overfitting, so the paper trained it on; "
        "accuracy did not rise any more.",
        "longer",
        "noDIA: longer training",
        "no gain",
    )
)
def longer_part(runs: PaperRuns, found: Experiment, topic: Topic) -> Part:
    """Section 5: noDIA trained longer."""
    jobs = sorted(found.jobs, key=lambda job: job.metric("epochs"))
    names = [f"{significant(job.metric('epochs'), 4)} epochs" for job in jobs]
    best = [significant(job.metric("best/epoch"), 4) for job in jobs]
    table = _table(
        runs,
        jobs,
        {"trained": names, "best epoch, from 0": best},
        base=lambda job: job is jobs[0],
        named=names[0],
    )
    accuracies = [percent(runs.accuracy(job)) for job in jobs]
    ours = "; ".join(f"{name} {text}" for name, text in zip(names, accuracies, strict=True))
    found = replace(found, jobs=jobs)
    return Part(
        [_compared(runs, found, topic, names, table, "By length of training")],
        [Line(topic.what, topic.paper, ours, found.data)],
    )


@part(
    Topic(
        "backbones",
        "Table 5: VGG16 and ResNet50-V2",
        f"On 51x51x3 VGG16 came to {share(BACKBONES['vgg16'])}, overfitting after about 20 epochs, "
        f"ResNet50-V2 to {share(BACKBONES['resnet50v2'])}, overfitting all along; the paper's own "
        f"DIA network has {share(TABLE_1['dia'].test, TABLE_1['dia'].test_error)}.",
        "backbones",
        "Pre-made networks (Table 5)",
        ", ".join(f"{BACKBONE_NAMES[k]} {share(v)}" for k, v in BACKBONES.items()),
    )
)
def backbones_part(runs: PaperRuns, found: Experiment, topic: Topic) -> Part:
    """Section 4.3 and Table 5: VGG16 and ResNet50-V2."""
    names = [BACKBONE_NAMES.get(job.name, f"{job.name} (the paper's)") for job in found.jobs]
    published = BACKBONES | {"dia": TABLE_1["dia"].test}
    paper = [share(published[j.name]) if j.name in published else "–" for j in found.jobs]
    table = _table(
        runs,
        found.jobs,
        {"network": names, "paper (DES)": paper},
        base=lambda job: job.name == "dia",
        named="DIA",
    )
    lines = [
        Line(f"{name}: test accuracy", text, percent(runs.accuracy(job)), found.data)
        for name, text, job in zip(names, paper, found.jobs, strict=True)
        if job.name in BACKBONES
    ]
    return Part([_compared(runs, found, topic, names, table, topic.title)], lines)


@part(
    Topic(
        "scalings",
        "Section 3.1: scaling of search and template",
        "The paper maps mean ± 3σ of search and template to 0–1 and gives no numbers for other "
        "scalings. three_sigma is what the authors' code does: the extremes of the pixels within "
        "mean ± 3σ become 0 and 1; mu_three_sigma is what the paper's words say; standardise "
        "brings mean and σ to 0 and 1, as for the difference.",
        "scalings",
        "Scalings of search and template",
        "–",
    )
)
def scalings_part(runs: PaperRuns, found: Experiment, topic: Topic) -> Part:
    """Section 3.1: the scaling of search and template."""
    key = "model.inputs.scaling.srch"
    scaling = [job.param(key, "–") for job in found.jobs]
    names = [NETWORKS.get(job.inputs, job.name) for job in found.jobs]
    table = _table(
        runs,
        found.jobs,
        {"network": names, "scaling": scaling},
        base=lambda job: job.param(key) == "three_sigma",
        named="three_sigma",
    )
    lines = []
    for inputs, name in NETWORKS.items():
        ours = "; ".join(
            f"{how} {percent(runs.accuracy(job))}"
            for job, how in zip(found.jobs, scaling, strict=True)
            if job.inputs == inputs
        )
        if ours:
            lines.append(Line(f"{name}: scalings (section 3.1)", topic.paper, ours, found.data))
    return Part([topic.section(found, [_PAIRED], tables={topic.title: table})], lines)


def _compared(
    runs: PaperRuns,
    found: Experiment,
    topic: Topic,
    names: Sequence[str],
    table: pd.DataFrame,
    title: str,
) -> Section:
    """A section with the table of the variants and their training curves."""
    return topic.section(found, [_PAIRED], _curves(runs, found, names), {title: table})


def _table(
    runs: PaperRuns,
    jobs: Sequence[Job],
    columns: dict[str, list[str]],
    base: Callable[[Job], bool] | None = None,
    named: str = "",
) -> pd.DataFrame:
    """What every variant is judged by, after the columns that tell them apart.

    With `base`, true of the variant that is `named` and that the others with its inputs are
    compared with, their differences on the same test candidates are a column.
    """
    counts = [job.number("n_parameters") for job in jobs]
    return pd.DataFrame(
        columns
        | {"test accuracy": [percent(runs.accuracy(job)) for job in jobs]}
        | ({} if base is None else {f"− {named}, %": _differences(runs, jobs, base)})
        | {
            "AUC": [number(runs.test_metric(job, "auc"), ".4f") for job in jobs],
            "validation": [percent(runs.validation(job)) for job in jobs],
            "epochs": [significant(job.metric("epochs"), 4) for job in jobs],
            "CPU-hours": [significant(job.metric("cost/train_cpu_hours"), 2) for job in jobs],
            "weights": [f"{n:,}" if n >= 0 else "–" for n in counts],
            "run": [job.id[:8] for job in jobs],
        }
    )


def _differences(runs: PaperRuns, jobs: Sequence[Job], base: Callable[[Job], bool]) -> list[str]:
    """Of each job's accuracy from that of the base with its inputs, candidate by candidate.

    A dash for the base itself, and for jobs that cannot be compared with it.
    """
    bases = {job.inputs: job for job in jobs if base(job)}
    found = []
    for job in jobs:
        first = bases.get(job.inputs)
        text = "–"
        if first is not None and first is not job:
            try:
                test = compare(runs.result(job), runs.result(first), runs.confidence)
                difference = _points(test.accuracy).removesuffix(" points")
                text = f"{difference}, {p_value(test.mcnemar_p)}"
                # The table is wide already: no line breaks within a number.
                text = text.replace(" ", "\N{NO-BREAK SPACE}")
            except UserError:
                pass  # its stamps are not there any more, or are others
        found.append(text)
    return found


def _curves(runs: PaperRuns, experiment: Experiment, names: Sequence[str]) -> list[Picture]:
    """Training curves, up to three a picture."""
    from rb.figures.classification.curves import curves_figure

    histories = {}
    for job, name in zip(experiment.jobs, names, strict=True):
        history = runs.history(job)
        if history is not None and len(history):
            histories[name] = history
    found = []
    for start in range(0, len(histories), 3):
        some = dict(list(histories.items())[start : start + 3])
        found.append(
            Picture(
                f"{experiment.name}_curves_{start // 3 + 1}",
                curves_figure(some),
                "Loss and accuracy over the epochs; dotted: the epoch whose weights are kept.",
            )
        )
    return found


def _points(difference: Estimate) -> str:
    """A difference of two shares in percentage points, with a true minus sign."""
    text = points(difference).replace("-", "−")
    return f"{text} points" if difference.defined else text
