"""Whole sessions of two tiny cases: what they write, how they end, how they go on."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from dynadiag.bench.records import Run, load_samples, read_run
from suites.run import Run as Session
from suites.run import agree

SUITES = Path(__file__).resolve().parents[2] / "suites"
GRID = """
[models]
"Tiny" = ["32x64"]
[modes.tiny]
precision = "quick"
override = { pilot = 0, least = 10, cap = 10, budget_s = 0.05 }
[[modes.tiny.grids]]
directions = ["forward", "step"]
shapes = ["Tiny"]
batches = [4]
dtypes = ["float32"]
sparsities = [0.5]
arms = ["diagonal", "csr"]
[modes.slow]
precision = "quick"
override = { least = 2500, cap = 2500, budget_s = 6.0 }
[[modes.slow.grids]]
directions = ["forward"]
shapes = ["Tiny"]
batches = [1, 2]
dtypes = ["float32"]
sparsities = [0.5]
arms = ["diagonal"]
[modes.cold]
precision = "quick"
[[modes.cold.grids]]
directions = ["forward"]
shapes = ["Tiny"]
batches = [1]
dtypes = ["float32"]
sparsities = [0.5]
regimes = ["cold"]
arms = ["diagonal"]
"""
# Without a compiler the reference backend serves: no session here waits for one.
ENVIRONMENT = os.environ | {"CXX": "no-such-compiler"}
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    (folder / "grid.toml").write_text(GRID, encoding="utf-8")
    return folder


def command(place: Path, *words: str) -> list[str]:
    options = ["--grid", str(place / "grid.toml"), "-p", "no:cacheprovider"]
    return [sys.executable, "-P", "-m", "pytest", str(SUITES), *options, *words]


def session(place: Path, *words: str) -> Done:
    return run(command(place, *words))


def run(words: list[str]) -> Done:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def measured(place: Path) -> tuple[Done, Run]:
    done = session(place, "--mode", "tiny", "--out", str(place / "runs"), "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (place / "runs").iterdir()
    return done, read_run(folder)


def test_run_folder_holds_every_arm_of_every_case(measured: tuple[Done, Run]) -> None:
    _, run = measured
    closing = [row for row in run.rows if row["metric"] == "case"]
    assert [row["status"] for row in closing] == ["ok", "ok"]
    assert {row["direction"] for row in closing} == {"forward", "step"}
    medians = [row for row in run.rows if (row["metric"], row["stat"]) == ("time", "median")]
    arms = Counter(row["arm"] for row in medians)
    assert arms == {"dense": 2, "dense_again": 2, "diagonal": 2, "csr": 2}
    assert all(row["value"] > 0 and row["n"] == 10 for row in medians)


def test_every_arm_has_every_metric_and_is_right(measured: tuple[Done, Run]) -> None:
    _, run = measured
    diagonal = [row for row in run.rows if row["arm"] == "diagonal"]
    metrics = {"time", "speedup", "weight_bytes", "peak_bytes", "error", "energy"}
    assert {row["metric"] for row in diagonal} == metrics
    assert all(row["value"] < 1e-5 for row in run.rows if row["metric"] == "error")
    baselines = {row["baseline"] for row in diagonal if row["metric"] == "speedup"}
    assert baselines == {"dense", "csr"}


def test_samples_are_those_of_the_rows(measured: tuple[Done, Run]) -> None:
    _, run = measured
    row = next(r for r in run.rows if (r["arm"], r["stat"]) == ("csr", "median"))
    samples = load_samples(run.folder, row["case_id"])
    assert float(sorted(samples["csr"])[0]) <= row["value"] <= float(sorted(samples["csr"])[-1])
    assert {len(times) for times in samples.values()} == {10}


def test_header_says_what_was_asked_and_whether_to_believe_it(measured: tuple[Done, Run]) -> None:
    done, run = measured
    assert (run.header["mode"], run.header["seed"]) == ("tiny", 7)
    assert run.header["self_checks"]["gemm_gflops"]["float32"] > 0
    assert run.header["aa"]["cases"] == 2
    assert run.header["suspect"] == (run.header["aa"]["verdict"] != "SAME")
    assert f"records: {run.folder}" in done.stdout


def test_output_is_progress_and_no_table(measured: tuple[Done, Run]) -> None:
    done, _ = measured
    assert "[1/2] " in done.stderr
    assert "[2/2] " in done.stderr
    assert "left" in done.stderr
    assert len(done.stdout.splitlines()) < 8


def test_disabled_session_runs_everything_and_records_nothing(place: Path) -> None:
    out = place / "none"
    done = session(place, "--mode", "tiny", "--out", str(out), "--benchmark-disable")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert not out.exists()


def options(place: Path, **given: object) -> argparse.Namespace:
    nothing = {"mode": None, "seed": None, "arms": "", "shapes": "", "keyword": "", "resume": None}
    nothing |= {"device": None}
    return argparse.Namespace(**(nothing | {"grid": place / "grid.toml"} | given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "fast"}, "unknown mode 'fast'; known: tiny, slow, cold"),
        ({"mode": "tiny", "arms": "csr, coo"}, "unknown arm 'coo'; known: dense"),
        ({"mode": "tiny", "shapes": "9x9"}, "unknown shape '9x9'; known: 32x64, Tiny"),
        ({"mode": "tiny", "device": "tpu"}, "unknown device 'tpu'; known: auto, cpu, cuda"),
        ({"mode": "cold", "device": "cpu"}, "no regime 'cold' on 'cpu'; known: eager"),
        ({"resume": Path("nowhere")}, "nowhere is not a run folder"),
    ],
)
def test_bad_option_is_told_with_the_known(
    place: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Session.from_options(options(place, **given))


def test_options_left_out_are_those_of_the_run_to_resume(place: Path) -> None:
    given = options(place)
    earlier = {"mode": "tiny", "seed": 7, "selection": {"arms": "csr", "keyword": "step"}}
    agree(given, earlier | {"device": {"type": "cuda"}})
    assert (given.mode, given.seed, given.arms, given.keyword) == ("tiny", 7, "csr", "step")
    assert given.device == "cuda"


def test_options_left_out_have_defaults(place: Path) -> None:
    given = options(place)
    agree(given, None)
    assert (given.mode, given.seed, given.arms, given.device) == ("quick", 0, "", "auto")


def test_resume_refuses_to_change_the_run(place: Path) -> None:
    with pytest.raises(ValueError, match="seed 8 differs from 7 in the run to resume"):
        agree(options(place, seed=8), {"mode": "tiny", "seed": 7})


def test_bad_option_is_one_line(place: Path) -> None:
    done = session(place, "--mode", "fast")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: unknown mode 'fast'" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_folder_that_cannot_be_written_is_told_before_any_work(place: Path) -> None:
    done = session(place, "--mode", "tiny", "--out", str(place / "grid.toml" / "runs"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: cannot write" in done.stderr
    assert "[1/2]" not in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of processes are POSIX")
def test_full_disk_stops_the_session_with_one_line(place: Path) -> None:
    words = command(place, "--mode", "tiny", "--arms", "csr", "--out", str(place / "full"))
    few_bytes = "import resource as r, runpy, sys; r.setrlimit(r.RLIMIT_FSIZE, (16384, 16384)); "
    words[1:4] = ["-P", "-c", few_bytes + "runpy.run_module('pytest', run_name='__main__')"]
    done = run(words)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "rows.jsonl" in done.stdout
    assert "free some space and continue with --resume" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_interrupted_run_keeps_its_records_and_is_resumed(place: Path) -> None:
    out = place / "interrupted"
    words = command(place, "--mode", "slow", "--out", str(out))
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # A shell's background job ignores SIGINT, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as child:
        assert child.stderr is not None
        assert any("[2/2]" in line for line in child.stderr)
        child.send_signal(signal.SIGINT)
        stdout, _ = child.communicate(timeout=60)
    assert child.returncode == pytest.ExitCode.INTERRUPTED
    (folder,) = out.iterdir()
    assert f"records: {folder}" in stdout
    kept = (folder / "rows.jsonl").read_bytes()
    assert [row["metric"] for row in read_run(folder).rows].count("case") == 1

    resumed = session(place, "--resume", str(folder))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "[1/1]" in resumed.stderr
    assert (folder / "rows.jsonl").read_bytes().startswith(kept)
    whole = read_run(folder)
    assert [row["metric"] for row in whole.rows].count("case") == 2
    assert whole.header["aa"]["cases"] == 2


def test_finished_run_has_nothing_to_resume(measured: tuple[Done, Run], place: Path) -> None:
    _, run = measured
    done = session(place, "--resume", str(run.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_run(run.folder).rows == run.rows
