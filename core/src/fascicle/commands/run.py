"""`fascicle run`: compose with Hydra, check, run, and show what came out."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import FascicleError, OutputFolderError
from .logs import setup_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..results import Result

__all__ = ["hydra_app", "job", "main"]

HELP = """\
usage: fascicle run [OVERRIDE ...] [-m] [--log-level LEVEL]

  fascicle run experiment=smoke                          one run
  fascicle run experiment=smoke seed=2 training.epochs=1 choose and change: see fascicle list
  fascicle run -m experiment=smoke seed=1,2,3            a sweep: every combination
  fascicle run experiment=smoke --cfg job                show the configuration, run nothing
  fascicle run experiment=smoke run.resume=true          continue where a killed run stopped

overrides:
  GROUP=OPTION    model data objective training decoding evaluation experiment
  GROUP.KEY=VALUE a key of the chosen option; fascicle list GROUP/OPTION says which there are
  seed=N          and run.root run.dir run.label run.resume run.overwrite run.device run.dtype run.threads run.plugins

flags:
  -m, --multirun      sweep; hydra/launcher=joblib (ray, submitit_local, submitit_slurm) runs in parallel
  -c, --cfg job       print the composed configuration
  -i, --info searchpath|defaults|plugins   what Hydra sees
  -cd, --config-dir   one more folder of option files
  --hydra-help        Hydra's own flags
"""


def main(args: list[str]) -> int:
    """Run; the exit status is 0, or an error is raised for the command line to print.

    Raises:
        FascicleError: whatever stopped the run.
    """
    if "-h" in args or "--help" in args:
        sys.stdout.write(HELP)
        return 0
    from ..overrides import open_keys
    from ..userfolders import require_user_folders

    require_user_folders()
    setup_logging()
    hydra_app(open_keys(args))
    return 0


def hydra_app(args: list[str]) -> None:
    """Hand `args` to `@hydra.main` over the core's configuration; `job` is its task.

    Raises:
        FascicleError: Hydra's and OmegaConf's errors in our words; the job's own as they are.
    """
    import hydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ..config import hydra_version_base
    from ..overrides import explain
    from ..searchpath import FascicleSearchPath

    Plugins.instance().register(FascicleSearchPath)
    app = hydra.main(config_path="pkg://fascicle.conf", config_name="config", **hydra_version_base())(job)
    with _argv(["fascicle", *args]), _full_errors():
        _refused.clear()
        try:
            app()
        except (HydraException, OmegaConfBaseException) as error:
            told = explain(error)
            raise told from (told.__cause__ or error)
        except OSError as error:
            if error.filename is None or _raised_by_job(error):
                raise
            told = OutputFolderError(f"run.root: {error.filename} cannot be written ({error.strerror}); choose another")
            raise told from error
    if _refused:
        raise _refused.pop()


def _raised_by_job(error: BaseException) -> bool:
    """Whether the job raised it, here or in a worker; else it is Hydra's own, which makes the sweep's folder."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code is not job.__code__:
        frame = frame.tb_next
    return frame is not None or type(error.__cause__).__name__ == "_RemoteTraceback"


_refused: list[FascicleError] = []
"""What stopped the one job of this process. Raised after Hydra is done: Hydra would print a line of its own before ours."""


def job(cfg: Any) -> float | None:
    """One job of Hydra, in this process or in a worker: run and show. Gives the primary metric, which sweepers optimise."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from ..config import plain
    from ..overrides import close_keys
    from ..pipeline import run
    from ..userfolders import shadowed

    setup_logging()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # one bar is enough, and it is ours
    log = logging.getLogger("fascicle")
    hydra_cfg = HydraConfig.get()
    overrides = close_keys(OmegaConf.to_container(hydra_cfg.overrides.task))  # type: ignore[arg-type]
    try:
        config = plain(cfg, hydra_cfg.runtime.choices)
        for note in shadowed(config["_choices"]):
            log.warning(note)
        result = run(config, overrides=overrides)
    except FascicleError as error:
        if hydra_cfg.mode is None or hydra_cfg.mode.name != "MULTIRUN":
            _refused.append(error)
            return None
        log.error("%s: %s", " ".join(overrides), error)  # noqa: TRY400 - raised below
        raise
    if int(os.environ.get("RANK", "0")) == 0:
        _show(result)
    return result.metrics.get(result.primary)


def _show(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    ordered = sorted(result.metrics.items(), key=lambda item: item[0] != result.primary)
    for name, value in ordered:
        number = f"{value:.6g}"
        unit = result.units.get(name, "")
        table.add_row(name, f"[bold]{number}[/bold]" if name == result.primary else number, unit)
    console = Console()
    console.print(f"{result.name}: {result.label}", style="bold", markup=False, highlight=False, soft_wrap=True)
    console.print(table)


@contextmanager
def _argv(args: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, args
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _full_errors() -> Iterator[None]:
    """Ask Hydra to raise what goes wrong instead of printing it and leaving; our command line prints it."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
