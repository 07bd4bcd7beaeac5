"""Options of the suites, and the run they write."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynadiag.bench.regimes import regime

from .cases import Case
from .run import NAME, Run

HERE = Path(__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `Run`."""
    group = parser.getgroup("dynadiag")
    group.addoption("--mode", help="grid of cases (default: quick, or that of the resumed run)")
    group.addoption("--arms", default="", help="only these arms, comma separated")
    group.addoption("--shapes", default="", help="only these shapes or models, comma separated")
    group.addoption("--device", help="cpu, cuda, or auto (the default): cuda where there is one")
    group.addoption("--allow-shared", action="store_true", help="though others use the card")
    group.addoption("--grid", type=Path, help="file with the modes (default: that of the device)")
    group.addoption("--out", type=Path, default=HERE.parent / "results/runs", help="where runs go")
    group.addoption("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    group.addoption("--seed", type=int, help="of inputs, weights and order (default: 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the run that the options ask for."""
    # The progress bar and the closing lines say it all; -v and --benchmark-verbose say more.
    config.option.verbose = config.option.verbose or -1
    config.option.benchmark_quiet = True
    # A warning, of some other torch say, is no reason to lose a case; the tests are stricter.
    config.addinivalue_line("filterwarnings", "default")
    try:
        session = Run.from_options(config.option)
    except (ValueError, OSError) as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(session, NAME)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case of the mode."""
    if "case" in metafunc.fixturenames:
        run = _run(metafunc.config)
        metafunc.parametrize("case", [_timed(case, run) for case in run.mode.cases])


def _timed(case: Case, run: Run) -> object:
    stamp = regime(case.regime, run.equipment.device).stamp
    return pytest.param(case, id=str(case), marks=pytest.mark.benchmark(timer=stamp))


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Print no dots: the progress bar tells."""
    if report.when == "call" and report.passed and config.get_verbosity() < 1:
        return ("passed", "", "")
    return None


@pytest.fixture
def run(pytestconfig: pytest.Config) -> Run:
    """Return the run that this session is."""
    return _run(pytestconfig)


def _run(config: pytest.Config) -> Run:
    run = config.pluginmanager.get_plugin(NAME)
    assert isinstance(run, Run)
    return run
