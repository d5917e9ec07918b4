"""Each wrong value of each declared setting is refused in one line that names it.

The values are made from the declarations; what refuses them is the function that a command calls.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from command_lines import run_here
from composing import composed

from rb.commands.evaluate import EVALUATION, check_evaluation
from rb.config import TRAINING, check_training
from rb.errors import UserError
from rb.evaluation.cost import BATCH_SIZES, Machine, checked_batches
from rb.explain.settings import RULES as SALIENCY
from rb.explain.settings import read_settings
from rb.models.forest.scorer import RULES as FOREST
from rb.models.forest.scorer import feature_inputs
from rb.settings import (
    Choice,
    Either,
    Entries,
    Group,
    Items,
    Number,
    OrNull,
    Place,
    Rule,
    Span,
    Text,
    Whole,
    check,
    read,
    rules_of,
    shown,
)
from rb.sources.alerts.settings import AlertSettings
from rb.sources.des.settings import DesSettings
from rb.sources.simulated import SETTINGS, set_path
from rb.survey.settings import SurveySettings


def wrong_values(rule: Rule) -> Iterator[Any]:
    """Values just outside what a rule allows, and of other types."""
    match rule:
        case Whole(least, most, odd):
            yield from (least - 1, least + 0.5, True, "many", None, float("nan"), [least], {})
            if most is not None:
                yield most + 1
            if odd:
                yield least + 1
        case Number(least, most, above, below):
            yield from (True, "many", None, float("nan"), float("inf"), [1.0], {})
            yield from (v - 1 for v in (least,) if v is not None)
            yield from (v + 1 for v in (most,) if v is not None)
            yield from (above, below)
        case Choice():
            values = ("none of these", 3.5, True, 1, None, [], {})
            yield from (v for v in values if not accepts(rule, v))
        case Text() | Place():
            yield from ("", "???", None, True, [], {})
        case OrNull(inner):
            yield from (value for value in wrong_values(inner) if value is not None)
        case Either(first, second):
            for value in (*wrong_values(first), *wrong_values(second)):
                if not any(accepts(r, value) for r in (first, second)):
                    yield value
        case Items(inner, least, _, single):
            yield from (3.5, True, {}, *([] if single else ["text"]), *([[]] if least else []))
            yield from ([value] for value in wrong_values(inner))
        case Span(inner):
            yield from (3.5, "text", None, [1], [1, 2, 3], [9e9, -9e9])
            yield from ([value, value] for value in wrong_values(inner))
        case Entries(inner):
            yield from (3.5, "text", None, [1])
            yield from ({"ztf": value} for value in wrong_values(inner) if value is not None)
        case Group(kind):
            yield from (3.5, "text", None, [1], {"no_such": 1})
            for name, inner in rules_of(kind).items():
                yield from ({name: value} for value in wrong_values(inner))
        case _:
            raise AssertionError(f"no wrong values are known for {rule}")


def accepts(rule: Rule, value: Any) -> bool:
    try:
        rule.read("x", value)
    except UserError:
        return False
    return True


def with_value(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of a configuration with a value at a dotted key."""
    changed = copy.deepcopy(dict(config))
    place, *rest = changed, *key.split(".")
    for part in rest[:-1]:
        place = place[part]
    place[rest[-1]] = value
    return changed


def doors() -> dict[str, tuple[Mapping[str, Rule], Callable[[], Any], Callable[[Any], Any], str]]:
    """By name: declarations, a configuration that is right, what checks it, prefix of its keys."""

    def data(name: str, *overrides: str) -> dict[str, Any]:
        config = composed("train", f"data={name}", *overrides)["data"]
        return {key: value for key, value in config.items() if key != "labels"}

    def study(name: str) -> dict[str, Any]:
        return composed("evaluate", f"study={name}")["study"]

    def place_of_set(config: Mapping[str, Any]) -> Path:
        return set_path(config, "cache")

    return {
        "training": (TRAINING, lambda: composed("train"), check_training, ""),
        "evaluation": (EVALUATION, lambda: composed("evaluate"), check_evaluation, ""),
        "simulated": (
            SETTINGS | rules_of(SurveySettings),
            lambda: data("simulated"),
            place_of_set,
            "data.",
        ),
        "alerts": (
            rules_of(AlertSettings),
            lambda: data("alerts", "data.root=x"),
            AlertSettings.from_config,
            "data.",
        ),
        "des": (rules_of(DesSettings), lambda: data("des", "data.root=x"), DesSettings.of, "data."),
        "saliency": (SALIENCY, lambda: study("saliency"), read_settings, "study."),
        "machine": (
            rules_of(Machine),
            lambda: study("cost")["machine"],
            lambda config: Machine(**config),
            "study.machine.",
        ),
        "batches": (
            {"batch_sizes": BATCH_SIZES},
            lambda: study("cost"),
            lambda config: checked_batches(config["batch_sizes"]),
            "study.",
        ),
        "forest": (
            FOREST,
            lambda: composed("train", "model=autoscan")["model"],
            feature_inputs,
            "model.",
        ),
    }


@pytest.mark.parametrize("door", doors())
def test_every_wrong_value_is_refused_by_its_key(door: str) -> None:
    rules, configuration, check_it, prefix = doors()[door]
    right = configuration()
    check_it(right)
    tried = 0
    for key, rule in rules.items():
        for value in wrong_values(rule):
            with pytest.raises(UserError) as error:
                check_it(with_value(right, key, value))
            message = str(error.value)
            named = re.escape(prefix + key)
            form = rf"{named}[\w.\[\]]*(: no such setting; have | is .+; give ).+"
            assert re.fullmatch(form, message), (key, value, message)
            tried += 1
    assert tried >= 4 * len(rules)


@pytest.mark.parametrize("door", doors())
def test_every_rule_says_what_it_wants(door: str) -> None:
    for rule in doors()[door][0].values():
        assert rule.what == rule.what.strip() != ""
        assert "  " not in rule.what


@pytest.mark.parametrize(
    ("script", "argument_", "message"),
    [
        ("train.py", "seed=4294967296", "seed is 4294967296; give a whole number from 0 to 42949"),
        ("train.py", "trainer.patience=0", "give a whole number of at least 1, or null"),
        ("train.py", "trainer.memory_gb=-1", "memory_gb is -1; give a number of at least 0"),
        ("train.py", "trainer.optimizer=null", "trainer.optimizer is not set; give a group of"),
        ("train.py", "paths.root=", "paths.root is ''; give a folder"),
        ("train.py", "data=null", "what is no name of a choice; give one, such as data="),
        ("train.py", "split=[1]", "what is no name of a choice; give one, such as data="),
        ("train.py", "+foo=1", "there is no setting 'foo'; see python train.py --help"),
        ("train.py", "+split.foo=1", "there is no setting 'split.foo'; see"),
        ("train.py", "+trainer.foo=1", "there is no setting 'trainer.foo'; see"),
        ("train.py", "model.network.dense=[0]", "model.network.dense has 0; give widths of at"),
        ("train.py", "trainer.optimizer._target_=os.system", "trainer.optimizer: missing a requ"),
        ("train.py", "trainer.precision=7", "precision=7: Precision 7 is invalid"),
        ("train.py", "model.init_from=nosuch", "nosuch: no model; its file ends in one of"),
        ("train.py", "model.init_from=nowhere.ckpt", "nowhere.ckpt: "),
        ("train.py", "data.candidates=0", "data.candidates is 0; give a whole number of at least"),
        ("train.py", "data.scene.sn_mag=[25,19]", "data.scene.sn_mag is [25, 19]; give [lowest, "),
        ("evaluate.py", "+foo=1", "there is no setting 'foo'; see python evaluate.py --help"),
        ("evaluate.py", "+study.foo=1", "there is no setting 'study.foo'; see"),
        ("evaluate.py", "confidence=1", "confidence is 1; give a number above 0 and below 1"),
        ("evaluate.py", "subset=some", "subset is 'some'; give test, val, train or all, or null"),
        ("evaluate.py", "examples=true", "examples is true; give a whole number of at least 0"),
        ("evaluate.py", "runs=[]", "runs is []; give a list of at least 1, each latest, best"),
    ],
)
def test_the_command_line_says_so_before_anything_is_built(
    monkeypatch, capsys, as_before, tmp_path, script, argument_, message
):
    root = () if argument_.startswith("paths.root") else (f"paths.root={tmp_path}",)
    assert run_here(monkeypatch, script, argument_, *root) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / ".cache").exists()


def test_what_is_right_comes_back_in_its_type() -> None:
    assert check({"a": {"b": 3}}, {"a.b": Number(0)}) == {"a.b": 3.0}
    assert Items(Whole(1), single=True).read("k", [1, 2]) == (1, 2)
    assert Span(Number()).read("k", [1, 2]) == (1.0, 2.0)
    assert OrNull(Whole(1)).read("k", None) is None
    assert Place().read("k", "~/x") == Path.home() / "x"
    assert Either(Whole(2), Choice((0,))).read("k", 0) == 0
    assert Entries(Whole(1)).read("k", {"a": 1, "b": None}) == {"a": 1}


def test_a_group_keeps_its_defaults_and_wants_what_has_none() -> None:
    from dataclasses import make_dataclass

    kind = make_dataclass(
        "Toy", [("a", Annotated[int, Whole(1)]), ("b", Annotated[int, Whole(1)], 7)], frozen=True
    )
    assert read(kind, {"a": 2}, "toy") == kind(2, 7)
    with pytest.raises(UserError, match=r"toy\.a is not set; give a whole number of at least 1"):
        read(kind, {}, "toy")


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) <= 100
    assert (shown(True), shown(None), shown("a"), shown(3)) == ("true", "not set", "'a'", "3")
