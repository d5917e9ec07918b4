"""Words that Hydra's grammar does not take: which key it is, and what to write instead."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from rb.hydra_job import configuration_message


def message_on(word: str) -> str:
    with pytest.raises(OverrideParseException) as error:
        OverridesParser.create().parse_overrides([word])
    return str(configuration_message(error.value))


@pytest.mark.parametrize(
    "value",
    [
        "/a=b/x.ckpt",
        "x(1)",
        "x'1",
        "x#1",
        "~x/y",
        "Ünï/ü",
        'a"b',
        "a,b)",
        "x&y",
        "c:\\d=\\",
        "t 'n\" #=",
    ],
)
def test_what_is_to_be_written_is_read_as_it_was_meant(value: str) -> None:
    message = message_on(f"data.root={value}")
    assert message.startswith(f"data.root: {value} has characters that need quotation marks; write")
    (word,) = shlex.split(message.partition("; write ")[2])
    (override,) = OverridesParser.create().parse_overrides([word])
    assert str(override.value()) == value


def test_lists_and_words_without_a_key() -> None:
    assert "runs: the list [a=1.ckpt,b] cannot be read" in message_on("runs=[a=1.ckpt,b]")
    assert "'a(b' is no setting; write KEY=VALUE" in message_on("a(b")
