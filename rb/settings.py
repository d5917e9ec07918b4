"""What a setting may be: declared once, beside what it describes, and checked here.

A dataclass carries the rules in its annotations; a configuration that stays a mapping has a table
of them by dotted key::

    @dataclass(frozen=True)
    class Machine:
        nodes: Annotated[int, Whole(1)] = 1

    EVALUATION = {"confidence": Number(above=0, below=1)}

Whatever is wrong is said in one form, ``KEY is VALUE; give WHAT``.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, TypeVar, get_args, get_type_hints

from rb.errors import UserError

_T = TypeVar("_T")


class Rule(Protocol):
    """What a setting may be."""

    @property
    def what(self) -> str:
        """It in words, as they follow "give"."""

    def read(self, key: str, value: Any) -> Any:
        """Return `value` in its own type; raise UserError if it is not `what`."""


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    least: int = 0
    most: int | None = None
    odd: bool = False

    @property
    def what(self) -> str:
        kind = "an odd whole number" if self.odd else "a whole number"
        most = self.most
        return f"{kind} of at least {self.least}" if most is None else f"{kind} {_span(self)}"

    def read(self, key: str, value: Any) -> int:
        right = type(value) is int and value >= self.least and not (self.odd and value % 2 == 0)
        if not right or (self.most is not None and value > self.most):
            refuse(key, value, self.what)
        return int(value)


@dataclass(frozen=True)
class Number:
    """A finite number; `least` and `most` are allowed, `above` and `below` are not."""

    least: float | None = None
    most: float | None = None
    above: float = -math.inf
    below: float = math.inf

    @property
    def what(self) -> str:
        if self.least is not None and self.most is not None:
            return f"a number {_span(self)}"
        words = ("of at least", "of at most", "above", "below")
        bounds = zip(words, (self.least, self.most, self.above, self.below), strict=True)
        said = [f"{w} {b:g}" for w, b in bounds if b is not None and math.isfinite(b)]
        return f"a number {' and '.join(said)}".strip()

    def read(self, key: str, value: Any) -> float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
        least = -math.inf if self.least is None else self.least
        most = math.inf if self.most is None else self.most
        if not (right and least <= value <= most and self.above < value < self.below):
            refuse(key, value, self.what)
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    options: Collection[str | int | bool]

    @property
    def what(self) -> str:
        *most, last = map(shown_plain, self.options)
        return f"{', '.join(most)} or {last}" if most else last

    def read(self, key: str, value: Any) -> Any:
        if not any(type(value) is type(option) and value == option for option in self.options):
            refuse(key, value, self.what)
        return value


FLAG = Choice((True, False))


@dataclass(frozen=True)
class Text:
    """Text that is not empty; numbers count, as the command line cannot tell them apart."""

    what: str = "a name"

    def read(self, key: str, value: Any) -> Any:
        plain = isinstance(value, str | int | float | Path) and not isinstance(value, bool)
        if not plain or str(value) in ("", "???"):
            refuse(key, value, self.what)
        return str(value)


@dataclass(frozen=True)
class Place(Text):
    """Path of a file or folder; ``~`` and variables of the environment are understood."""

    what: str = "a folder"

    def read(self, key: str, value: Any) -> Path:
        return Path(os.path.expandvars(super().read(key, value))).expanduser().absolute()


@dataclass(frozen=True)
class OrNull:
    """What another rule allows, or nothing."""

    rule: Rule

    @property
    def what(self) -> str:
        return f"{self.rule.what}, or null"

    def read(self, key: str, value: Any) -> Any:
        try:
            return None if value is None else self.rule.read(key, value)
        except UserError as error:
            # An entry of a list is refused by its own key, and cannot be null.
            raise UserError(str(error).replace(self.rule.what, self.what)) from None


@dataclass(frozen=True)
class Either:
    """What one of two rules allows."""

    first: Rule
    second: Rule

    @property
    def what(self) -> str:
        return f"{self.first.what}, or {self.second.what}"

    def read(self, key: str, value: Any) -> Any:
        for rule in (self.first, self.second):
            try:
                return rule.read(key, value)
            except UserError:
                continue
        refuse(key, value, self.what)


@dataclass(frozen=True)
class Items:
    """A list, all of whose entries keep one rule; with `single`, one entry needs no list."""

    rule: Rule
    least: int = 0
    distinct: bool = False
    single: bool = False

    @property
    def what(self) -> str:
        some = "entries" if not self.least else f"at least {self.least}"
        once = ", none of them twice" if self.distinct else ""
        return f"a list of {some}, each {self.rule.what}{once}"

    def read(self, key: str, value: Any) -> tuple[Any, ...]:
        if self.single and isinstance(value, str):
            return (self.rule.read(key, value),)
        if not _is_list(value) or len(value) < self.least:
            refuse(key, value, self.what)
        found = tuple(self.rule.read(f"{key}[{i}]", entry) for i, entry in enumerate(value))
        if self.distinct and len(set(found)) < len(found):
            refuse(key, value, self.what)
        return found


@dataclass(frozen=True)
class Span:
    """Lowest and highest value."""

    rule: Rule

    @property
    def what(self) -> str:
        return f"[lowest, highest], each {self.rule.what}"

    def read(self, key: str, value: Any) -> tuple[Any, Any]:
        if not _is_list(value) or len(value) != 2:
            refuse(key, value, self.what)
        low, high = (self.rule.read(f"{key}[{i}]", entry) for i, entry in enumerate(value))
        if low > high:
            refuse(key, value, self.what)
        return low, high


@dataclass(frozen=True)
class Entries:
    """Values by names that are free; null ones don't count."""

    rule: Rule

    @property
    def what(self) -> str:
        return f"a group of entries, each {self.rule.what}"

    def read(self, key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            refuse(key, value, self.what)
        given = ((str(k), v) for k, v in value.items() if v is not None)
        return {name: self.rule.read(f"{key}.{name}", entry) for name, entry in given}


@dataclass(frozen=True)
class Group:
    """The settings of a dataclass; what is left out keeps its default."""

    kind: type

    @property
    def what(self) -> str:
        return f"a group of settings: {', '.join(rules_of(self.kind))}"

    def read(self, key: str, value: Any) -> Any:
        rules = rules_of(self.kind)
        if not isinstance(value, Mapping):
            refuse(key, value, self.what)
        for name in value:
            if name not in rules:
                raise UserError(f"{key}.{name}: no such setting; have {', '.join(rules)}")
        unset = dataclasses.MISSING
        needed = {
            f.name
            for f in dataclasses.fields(self.kind)
            if f.default is unset and f.default_factory is unset
        }
        given = {name: value.get(name) for name in rules if name in value or name in needed}
        return self.kind(**{k: rules[k].read(f"{key}.{k}", v) for k, v in given.items()})


Count = Annotated[int, Whole(0)]
Share = Annotated[float, Number(0, 1)]


def rules_of(kind: type) -> dict[str, Rule]:
    """The rule of each field of a dataclass: in its annotation, or a dataclass itself."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: Group(hint) if dataclasses.is_dataclass(hint) else get_args(hint)[1]  # type: ignore[arg-type]
        for name, hint in hints.items()
    }


def read(kind: type[_T], given: Any, key: str) -> _T:
    """Make a dataclass of the settings `given` under `key`.

    Raises
    ------
    UserError
        Naming the key that is unknown, missing or wrong.
    """
    made: _T = Group(kind).read(key, given)
    return made


def check_fields(made: Any, key: str) -> None:
    """Hold the fields of a dataclass against their rules, in its ``__post_init__``."""
    for name, rule in rules_of(type(made)).items():
        rule.read(f"{key}.{name}", getattr(made, name))


def check(given: Mapping[str, Any], rules: Mapping[str, Rule], key: str = "") -> dict[str, Any]:
    """Values of `given` by the dotted keys of `rules`, each as its rule makes it.

    Raises
    ------
    UserError
        Naming the key that is missing or wrong. Keys without a rule are left alone.
    """
    found = {}
    for name, rule in rules.items():
        value: Any = given
        at = key
        for part in name.split("."):
            if not isinstance(value, Mapping):
                refuse(at, value, "a group of settings")
            at, value = f"{at}.{part}".lstrip("."), value.get(part)
        found[name] = rule.read(at, value)
    return found


def refuse(key: str, value: Any, what: str) -> NoReturn:
    """Say that a setting is not what it may be."""
    raise UserError(f"{key} is {shown(value)}; give {what}")


def shown(value: Any) -> str:
    """A value as its user would write it, not too long."""
    if value is None or value == "???":
        return "not set"
    text = f"'{value}'" if isinstance(value, str) else shown_plain(value)
    return text if len(text) <= 100 else f"{text[:97]}…"


def shown_plain(value: Any) -> str:
    """A value without quotation marks."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _span(rule: Whole | Number) -> str:
    low, high = rule.least, rule.most
    return f"from {low:g} to {high:g}" if (high or 0) < 1e5 else f"from {low} to {high}"
