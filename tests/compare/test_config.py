from __future__ import annotations

from pathlib import Path

import pytest

from dynadiag.compare.config import PRESETS, Config, Limits, load
from dynadiag.compare.outcome import CompareError


def write(folder: Path, text: str) -> Path:
    path = folder / "compare.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dumped_preset_loads_back(preset: str, tmp_path: Path) -> None:
    assert load(write(tmp_path, load(preset=preset).dump())) == PRESETS[preset]


def test_a_dumped_file_loads_back_with_its_overrides(tmp_path: Path) -> None:
    text = """
    [compare]
    preset = "permissive"
    fail = 0.2
    baselines = ["csr \\"quoted\\"", "dense"]
    [[compare.case]]
    match = { batch = "<=16", direction = ["forward", "step"] }
    fail = 0.5
    """
    config = load(write(tmp_path, text))
    assert config.limits == Limits(0.02, 0.05, 0.2)
    assert config.baselines == ('csr "quoted"', "dense")
    assert load(write(tmp_path, config.dump())) == config


def test_the_preset_of_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, '[compare]\npreset = "strict"\nwarn = 0.015\n')
    assert load(path).limits.fail == 0.03
    assert load(path, "default").limits == Limits(0.01, 0.015, 0.05)


def test_strict_is_stricter_and_permissive_is_not() -> None:
    rules = [PRESETS[name] for name in ("strict", "default", "permissive")]
    fails = [each.limits.fail for each in rules]
    assert fails == sorted(fails)
    assert [each.overall for each in rules] == sorted(each.overall for each in rules)
    assert all(each.overall < each.limits.fail for each in rules)


def test_all_cases_together_keep_their_limit_when_that_of_a_case_changes(tmp_path: Path) -> None:
    config = load(write(tmp_path, "[compare]\nfail = 0.2"))
    assert (config.limits.fail, config.together.fail) == (0.2, 0.03)
    config = load(write(tmp_path, "[compare]\noverall = 0.04"))
    assert (config.limits.fail, config.together.fail) == (0.05, 0.04)


@pytest.mark.parametrize(
    ("match", "columns", "fits"),
    [
        ({"batch": "<=16"}, {"batch": 16}, True),
        ({"batch": "<16"}, {"batch": 16}, False),
        ({"sparsity": ">=0.9"}, {"sparsity": 0.95}, True),
        ({"sparsity": ">0.95"}, {"sparsity": 0.95}, False),
        ({"batch": "<=16"}, {"batch": None}, False),
        ({"dtype": "float32"}, {"dtype": "float32"}, True),
        ({"dtype": ["bfloat16", "float16"]}, {"dtype": "float32"}, False),
        ({"batch": [1, ">=100"]}, {"batch": 197}, True),
        ({"batch": 1, "arm": "diagonal"}, {"batch": 1, "arm": "dense"}, False),
    ],
)
def test_overrides_apply_where_every_column_fits(
    match: dict[str, object], columns: dict[str, object], fits: bool, tmp_path: Path
) -> None:
    table = ", ".join(f"{key} = {value!r}" for key, value in match.items())
    config = load(write(tmp_path, f"[compare]\n[[compare.case]]\nmatch = {{{table}}}\nfail = 0.4"))
    assert config.limits_of(columns).fail == (0.4 if fits else 0.05)


def test_of_two_overrides_the_later_wins(tmp_path: Path) -> None:
    text = "[compare]\n" + "".join(
        f"[[compare.case]]\nmatch = {{ batch = 1 }}\nfail = {fail}\n" for fail in (0.3, 0.4)
    )
    assert load(write(tmp_path, text)).limits_of({"batch": 1}).fail == 0.4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[compare]\nfial = 0.1", "unknown key of [compare] fial; known: margin, warn, fail"),
        ('[compare]\npreset = "fast"', "unknown preset fast; known: default, strict, permissive"),
        ("[compare]\nfail = true", "fail is True, expected like 0.05"),
        ('[compare]\nsubjects = "diagonal"', "expected a list of names"),
        ("[compare]\nfail = 0.001", "0 < margin <= warn <= fail < 1"),
        ("[compare]\npairs_least = 1", "2 <= pairs_least"),
        ("[compare]\noverall = 0.01", "overall is 0.01, must be at least warn (0.02)"),
        ("[compare]\n[[compare.case]]\nmatch = { batch = 1 }\noverall = 0.1", "unknown key of [["),
        ("[compare]\nlevel = 1.0", "level is 1.0"),
        ("[compare]\nconfirm = -1", "must not be negative"),
        ("[compare]\n[[compare.case]]\nfail = 0.1", "needs what to match"),
        ("[compare]\n[[compare.case]]\nmatch = { bacth = 1 }", "unknown column to match bacth"),
        ("[compare]\n[[compare.case]]\nmatch = { batch = 1 }\nlevel = 0.9", "unknown key of [["),
        ("[compare]\n[[compare.case]]\nmatch = { batch = 1 }\nfail = 0.001", "0 < margin"),
        ("[compare]\ncase = 1", "array of tables"),
        ("[other]\n", "has no table [compare]"),
        ("[compare", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named_in_one_error(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CompareError) as raised:
        load(write(tmp_path, text))
    assert said in str(raised.value)


def test_a_comparison_with_words_is_refused(tmp_path: Path) -> None:
    config = load(write(tmp_path, '[compare]\n[[compare.case]]\nmatch = { dtype = "<=4" }'))
    with pytest.raises(CompareError, match="compares 'float32' with no number"):
        config.limits_of({"dtype": "float32"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"none\.toml cannot be read"):
        load(tmp_path / "none.toml")


def test_the_default_needs_no_file() -> None:
    assert load() == Config()
