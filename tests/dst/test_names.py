from __future__ import annotations

import pytest

from dynadiag.dst.names import as_patterns, check_patterns, matches

NAMES = ["head", "blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.1.mlp.fc1", "overhead"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("head", ["head"]),
        ("attn", ["blocks.0.attn.qkv", "blocks.0.attn.proj"]),
        ("0.attn", ["blocks.0.attn.qkv", "blocks.0.attn.proj"]),
        ("blocks.*.attn", ["blocks.0.attn.qkv", "blocks.0.attn.proj"]),
        ("*head", ["head", "overhead"]),
        ("fc?", ["blocks.1.mlp.fc1"]),
        ("blocks.[1-9]*", ["blocks.1.mlp.fc1"]),
        ("block", []),
        ("mlp.fc", []),
    ],
)
def test_a_pattern_is_the_end_of_a_path_or_of_one_above(pattern: str, expected: list[str]) -> None:
    assert [name for name in NAMES if matches(name, pattern)] == expected


def test_one_string_is_one_pattern() -> None:
    assert as_patterns("head") == ("head",)
    assert as_patterns(["head", "fc*"]) == ("head", "fc*")


def test_a_pattern_without_a_match_names_near_modules() -> None:
    check_patterns("exclude", ["head", "blocks.*"], NAMES)
    with pytest.raises(ValueError, match=r"exclude 'heads' matches no .* did you mean 'head' or"):
        check_patterns("exclude", ["head", "heads"], NAMES)
    with pytest.raises(ValueError, match=r"named_modules"):
        check_patterns("include", ["zzz"], NAMES)
