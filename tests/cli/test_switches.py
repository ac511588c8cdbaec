"""One option, many spellings."""

import pytest

from binseg.cli.switches import in_parsers_spelling, is_on, value_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--resume", "--resume"),
        ("--resume true", "--resume"),
        ("--resume=true", "--resume"),
        ("--resume YES --out a", "--resume --out a"),
        ("--resume off", "--no_resume"),
        ("--resume=false", "--no_resume"),
        ("--no_resume", "--no_resume"),
        ("--no-resume", "--no_resume"),
        ("--no_resume false", "--resume"),
        ("--resume model.safetensors true", "--resume model.safetensors true"),
        ("--raw-ids", "--raw_ids"),
        ("--latency.int8", "--latency.int8=true"),
        ("--latency.int8 --out a", "--latency.int8=true --out a"),
        ("--latency.int8 true", "--latency.int8=true"),
        ("--latency.int8=no", "--latency.int8=false"),
        ("--latency.int8 null", "--latency.int8 null"),
        ("--out true --data.root=a-b=c -x", "--out true --data.root=a-b=c -x"),
        ("a -- --resume true", "a -- --resume"),
    ],
)
def test_spellings(given, expected):
    found = in_parsers_spelling(given.split(), ["resume", "raw_ids"], ["latency.int8"])
    assert found == expected.split()


def test_a_value_that_is_no_truth_value_stays_for_the_parser_to_refuse():
    assert in_parsers_spelling(["--resume=maybe"], ["resume"]) == ["--resume=maybe"]


@pytest.mark.parametrize(
    ("given", "on"),
    [
        ("--out a", False),
        ("--resume --out a", True),
        ("--out=a --resume=true", True),
        ("--resume true --resume false", False),
        ("--no_resume --resume", True),
    ],
)
def test_is_on(given, on):
    assert is_on(given.split(), "resume") is on


@pytest.mark.parametrize(
    ("given", "value"),
    [("--out a", "a"), ("--out=a=b", "a=b"), ("--out a --out=b", "b"), ("--out", None), ("", None)],
)
def test_value_of(given, value):
    assert value_of(given.split(), "out") == value
