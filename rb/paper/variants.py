"""What the paper varied: stacking, folds, other networks, length of training, scaling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.evaluation.paired import compare
from rb.metrics.intervals import Estimate
from rb.paper.parts import KINDS, Line, Part, missing, number, own, section, share
from rb.paper.runs import Experiment, Gathered, Job
from rb.paper.values import (
    FOLDS_MEAN,
    FOLDS_STD,
    LONGER_EPOCHS,
    PREMADE,
    RICHER,
    STACKING_TNR_LOSS,
    TABLE_1,
)
from rb.report.comparison import p_value
from rb.report.sections import Picture

_PAIRED = (
    "The column with a minus: difference of the test accuracies in points, the same candidates, "
    "with its interval and the p-value of McNemar's exact test."
)
_PLAIN = "Table 4 (the paper's noDIA)"
_PREMADE_NAMES = {"vgg16": "VGG16", "resnet50v2": "ResNet50-V2"}


def stacking_part(gathered: Gathered) -> Part:
    """Figure 14: the images as channels instead of side by side."""
    title = "Figure 14: images stacked in depth"
    says = (
        "Fed with 51x51x3 instead of 51x153, the paper's DIA network calls about 1 % fewer bogus "
        "ones rightly (TN) and is otherwise as good; without the difference (51x51x2) nothing is "
        "gained either."
    )
    paper = f"TN −{100 * STACKING_TNR_LOSS:.0f} point, else equal"
    what = "Depth against horizontal stacking (Figure 14)"
    found = gathered.experiment("stacking")
    if found is None:
        return missing("figure-14", title, says, "stacking", what, paper)
    jobs = sorted(found.jobs, key=_stacked, reverse=True)  # as the paper: side by side first
    jobs.sort(key=lambda job: job.kind)
    try:
        results = {_stacked(job): gathered.result(job) for job in jobs}
    except UserError as error:
        reason = f"Its runs cannot be scored: {error}"
        return missing("figure-14", title, says, "stacking", what, paper, reason)
    from rb.figures.classification.confusion import confusion_figure

    table = _table(gathered, jobs, {"network": [_stacked(job) for job in jobs]})
    texts, lines, pictures = [says], [], []
    for kind, name in KINDS.items():
        matrices = {n: r.confusion() for n, r in results.items() if r.inputs == kind}
        if matrices:
            caption = f"{name}: confusion matrices on the test set, shares of a true label."
            picture = Picture(f"figure_14_confusion_{kind}", confusion_figure(matrices), caption)
            pictures.append(picture)
        pair = [results.get(f"{name}, {stacking}") for stacking in ("depth", "horizontal")]
        if pair[0] is None or pair[1] is None:
            continue
        test = compare(pair[0], pair[1], gathered.confidence)
        texts.append(
            f"{name}, depth minus horizontal, the same candidates: accuracy "
            f"{_points(test.accuracy)}, TPR {_points(test.tpr)}, TNR {_points(test.tnr)}; "
            f"McNemar's exact test {p_value(test.mcnemar_p)}."
        )
        told = paper if kind == "dia" else "no improvement"
        ours = f"TN {_points(test.tnr)}, accuracy {_points(test.accuracy)}"
        lines.append(Line(f"{name}: depth minus horizontal (Figure 14)", told, ours, found.data))
    return Part(
        [section("figure-14", title, found, texts, pictures, {"By stacking": table})],
        lines or [Line(what, paper, "only one of the two", found.data)],
    )


def _stacked(job: Job) -> str:
    return f"{KINDS.get(job.kind, job.kind)}, {job.run.data.tags.get('stacking', '?')}"


def folds_part(gathered: Gathered) -> Part:
    """Section 4.3: six-fold cross-validation of noDIA."""
    title = "Section 4.3: cross-validation"
    paper = share(FOLDS_MEAN, FOLDS_STD)
    says = f"Six-fold cross-validation of noDIA: the paper's test accuracy is {paper} (mean ± sd)."
    what = "noDIA: six-fold test accuracy"
    found = gathered.experiment("folds")
    if found is None:
        return missing("folds", title, says, "folds", what, paper)
    from rb.figures.studies.sweep import folds_figure

    texts, lines, groups, tables = [says], [], {}, {}
    for name in dict.fromkeys(job.name for job in found.jobs):
        jobs = [job for job in found.jobs if job.name == name]
        test = [gathered.accuracy(job) for job in jobs]
        folds = [job.number("split.fold") for job in jobs]
        known = np.array([e.value for e in test if e.defined])
        tables[f"Folds of {name}"] = _table(gathered, jobs, {"fold": [str(fold) for fold in folds]})
        groups[name] = {
            "fold": folds,
            "validation": [job.metric("best/val_acc") for job in jobs],
            "test": [e.value if e.defined else None for e in test],
        }
        if known.size < 2:
            continue
        wanted = jobs[0].number("split.folds")
        ours = f"{100 * known.mean():.2f} ± {100 * known.std(ddof=1):.2f} %"
        name = KINDS.get(name, name)
        texts.append(
            f"{name}, {known.size} of {wanted} folds: {ours} (mean ± sd of the folds, which holds "
            "the scatter of training as well as that of the test sets; each candidate is in one)."
        )
        lines.append(Line(f"{name}: {wanted}-fold test accuracy", paper, ours, found.data))
    picture = Picture(
        "folds",
        folds_figure(groups),
        "Accuracy of each fold; the band is mean ± sd of the test accuracies.",
    )
    return Part(
        [section("folds", title, found, texts, [picture], tables)],
        lines or [Line(what, paper, "too few folds", found.data)],
    )


def richer_part(gathered: Gathered) -> Part:
    """Tables 6 to 9: noDIA with more layers."""
    title = "Tables 6 to 9: richer networks"
    says = (
        "To make up for the difference image the paper gave noDIA more layers: "
        + "; ".join(f"Table {number}: {what}" for number, what in RICHER.items())
        + ". None was better than the plain network."
    )
    what = "Richer noDIA networks (Tables 6–9)"
    found = gathered.experiment("richer")
    if found is None:
        return missing("richer", title, says, "richer", what, "no gain")
    names = [_richer_name(job) for job in found.jobs]
    table = _table(
        gathered,
        found.jobs,
        {"network": names},
        base=lambda job: _richer_name(job) == _PLAIN,
        named="Table 4",
    )
    accuracies = dict(zip(names, (gathered.accuracy(j) for j in found.jobs), strict=True))
    base = accuracies.pop(_PLAIN, None)
    lines = []
    for name, accuracy in accuracies.items():
        against = "" if base is None else f", plain {own(base)}"
        lines.append(Line(f"noDIA, {name}", "no gain", own(accuracy) + against, found.data))
    return Part(
        [
            section(
                "richer",
                title,
                found,
                [says, _PAIRED],
                _curves(gathered, found, names),
                {title: table},
            )
        ],
        lines,
    )


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


def longer_part(gathered: Gathered) -> Part:
    """Section 5: noDIA trained longer."""
    title = "Section 5: longer training"
    says = (
        f"After {LONGER_EPOCHS} epochs noDIA showed no overfitting, so the paper trained it on; "
        "accuracy did not rise any more."
    )
    what = "noDIA: longer training"
    found = gathered.experiment("longer")
    if found is None:
        return missing("longer", title, says, "longer", what, "no gain")
    jobs = sorted(found.jobs, key=lambda job: job.metric("epochs"))
    names = [f"{number(job.metric('epochs'), 4)} epochs" for job in jobs]
    table = _table(
        gathered,
        jobs,
        {
            "trained": names,
            "best epoch, from 0": [number(job.metric("best/epoch"), 4) for job in jobs],
        },
        base=lambda job: job is jobs[0],
        named=names[0],
    )
    ours = "; ".join(
        f"{name} {own(gathered.accuracy(job))}" for name, job in zip(names, jobs, strict=True)
    )
    return Part(
        [
            section(
                "longer",
                title,
                found,
                [says, _PAIRED],
                _curves(gathered, Experiment("longer", found.size, None, jobs), names),
                {"By length of training": table},
            )
        ],
        [Line(what, "no gain", ours, found.data)],
    )


def premade_part(gathered: Gathered) -> Part:
    """Section 4.3 and Table 5: VGG16 and ResNet50-V2."""
    title = "Table 5: VGG16 and ResNet50-V2"
    says = (
        f"On 51x51x3 VGG16 came to {share(PREMADE['vgg16'])}, overfitting after about 20 epochs, "
        f"ResNet50-V2 to {share(PREMADE['resnet50v2'])}, overfitting all along; the paper's own "
        f"DIA network has {share(TABLE_1['dia'].test, TABLE_1['dia'].test_error)}."
    )
    paper = ", ".join(f"{_PREMADE_NAMES[k]} {share(v)}" for k, v in PREMADE.items())
    found = gathered.experiment("premade")
    if found is None:
        return missing("premade", title, says, "premade", "Pre-made networks (Table 5)", paper)
    names = [_PREMADE_NAMES.get(job.name, f"{job.name} (the paper's)") for job in found.jobs]
    told = {name: PREMADE.get(job.name) for name, job in zip(names, found.jobs, strict=True)}
    columns = {
        "network": names,
        "paper (DES)": [
            share(told[n] or TABLE_1["dia"].test) if told[n] or j.name == "dia" else "–"  # type: ignore[arg-type]
            for n, j in zip(names, found.jobs, strict=True)
        ],
    }
    table = _table(gathered, found.jobs, columns, base=lambda job: job.name == "dia", named="DIA")
    lines = [
        Line(
            f"{name}: test accuracy",
            share(PREMADE[job.name]),
            own(gathered.accuracy(job)),
            found.data,
        )
        for name, job in zip(names, found.jobs, strict=True)
        if job.name in PREMADE
    ]
    return Part(
        [
            section(
                "premade",
                title,
                found,
                [says, _PAIRED],
                _curves(gathered, found, names),
                {title: table},
            )
        ],
        lines,
    )


def scalings_part(gathered: Gathered) -> Part:
    """Section 3.1: the scaling of search and template."""
    title = "Section 3.1: scaling of search and template"
    says = (
        "The paper maps mean ± 3σ of search and template to 0–1 and gives no numbers for other "
        "scalings. three_sigma is what the authors' code does: the extremes of the pixels within "
        "mean ± 3σ become 0 and 1; mu_three_sigma is what the paper's words say; standardise "
        "brings mean and σ to 0 and 1, as for the difference."
    )
    what = "Scalings of search and template"
    found = gathered.experiment("scalings")
    if found is None:
        return missing("scalings", title, says, "scalings", what, "–")
    scaling = [job.param("model.inputs.scaling.srch", "–") for job in found.jobs]
    names = [KINDS.get(job.kind, job.name) for job in found.jobs]
    table = _table(
        gathered,
        found.jobs,
        {"network": names, "scaling": scaling},
        base=lambda job: job.param("model.inputs.scaling.srch") == "three_sigma",
        named="three_sigma",
    )
    lines = []
    for kind, name in KINDS.items():
        ours = "; ".join(
            f"{how} {own(gathered.accuracy(job))}"
            for job, how in zip(found.jobs, scaling, strict=True)
            if job.kind == kind
        )
        if ours:
            lines.append(Line(f"{name}: scalings (section 3.1)", "–", ours, found.data))
    return Part([section("scalings", title, found, [says, _PAIRED], tables={title: table})], lines)


def _table(
    gathered: Gathered,
    jobs: Sequence[Job],
    columns: dict[str, list[str]],
    base: Callable[[Job], bool] | None = None,
    named: str = "",
) -> pd.DataFrame:
    """What every variant is judged by, after the columns that tell them apart.

    With `base`, true of the variant that is `named` and that the others of its kind are set
    against, their differences on the same test candidates are a column.
    """
    return pd.DataFrame(
        columns
        | {"test accuracy": [own(gathered.accuracy(job)) for job in jobs]}
        | ({} if base is None else {f"− {named}, %": _against(gathered, jobs, base)})
        | {
            "AUC": [_four(gathered.test_metric(job, "auc")) for job in jobs],
            "validation": [own(gathered.validation(job)) for job in jobs],
            "epochs": [number(job.metric("epochs"), 4) for job in jobs],
            "CPU-hours": [number(job.metric("cost/train_cpu_hours"), 2) for job in jobs],
            "weights": [_count(job.number("n_parameters")) for job in jobs],
            "run": [job.id[:8] for job in jobs],
        }
    )


def _against(gathered: Gathered, jobs: Sequence[Job], base: Callable[[Job], bool]) -> list[str]:
    """Difference of each job's accuracy from that of the base of its kind, candidate by candidate.

    A dash for the base itself, and for jobs that cannot be compared with it.
    """
    bases = {job.kind: job for job in jobs if base(job)}
    found = []
    for job in jobs:
        first = bases.get(job.kind)
        text = "–"
        if first is not None and first is not job:
            try:
                test = compare(gathered.result(job), gathered.result(first), gathered.confidence)
                difference = _points(test.accuracy).removesuffix(" points")
                # The table is wide already: no line breaks within a number.
                text = f"{difference}, {p_value(test.mcnemar_p)}".replace(" ", "\N{NO-BREAK SPACE}")
            except UserError:
                pass  # its stamps are not there any more, or are others
        found.append(text)
    return found


def _curves(gathered: Gathered, experiment: Experiment, names: Sequence[str]) -> list[Picture]:
    """Training curves, up to three a picture."""
    from rb.figures.classification.curves import curves_figure

    histories = {}
    for job, name in zip(experiment.jobs, names, strict=True):
        history = gathered.history(job)
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


def _points(estimate: Estimate) -> str:
    """A difference of two shares in percentage points."""
    if not estimate.defined:
        return "–"
    text = f"{100 * estimate.value:+.1f} ± {100 * estimate.half_width:.1f} points"
    return text.replace("-", "−")


def _four(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _count(value: int) -> str:
    return f"{value:,}" if value >= 0 else "–"
