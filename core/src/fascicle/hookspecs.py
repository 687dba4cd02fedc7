"""The hooks, by phase. Importing this module costs `import pluggy` and nothing else.

Config selects, hooks provide: a verb (`fascicle_load_model` to `fascicle_evaluate`) is asked only of the plugin that the chosen
option names as its `provider`; wrappers (`@hookimpl(wrapper=True)`) run only for the plugins that the run selects. A verb is
called once per run and builds an object; no hook is called in an inner loop. A provider that answers None is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .context import RunContext
    from .info import PluginInfo
    from .objects import Data, Decoder, LoadedModel, Metrics, Objective, TrainResult
    from .results import Result

__all__ = ["PROJECT", "VERBS", "hookimpl", "hookspec"]

PROJECT = "fascicle"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

VERBS = {
    "model": "fascicle_load_model",
    "data": "fascicle_load_data",
    "objective": "fascicle_objective",
    "training": "fascicle_train",
    "decoding": "fascicle_decoder",
    "evaluation": "fascicle_evaluate",
}
"""Group to the verb that its options' providers answer, in the order of a run."""


# ---- discovery: plain data and strings, called in every command and every worker ----------------------------------------


@hookspec
def fascicle_plugin_info() -> PluginInfo:  # type: ignore[empty-body]
    """Say who you are: name, paper, bibtex, and the schema of each option.

    Called: on every start of the command line and before every run. Return: a `PluginInfo`; must not import anything heavy.
    None: the plugin is reported as broken.

    >>> from fascicle import PluginInfo, hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_plugin_info(self):
    ...         return PluginInfo(name="toy", title="A toy", options={"training/toy": "fascicle_toy.options:Toy"})
    """


@hookspec
def fascicle_config_packages() -> list[str]:  # type: ignore[empty-body]
    """Name the packages that hold your option files, e.g. `["fascicle_toy.conf"]`.

    Called: by the search path plugin in every Hydra application and worker of the environment, so only the standard library
    may be used. Return: package names; each has group folders (`training/toy.yaml`) and an `__init__.py`. None: no options.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_config_packages(self):
    ...         return ["fascicle_toy.conf"]
    """


@hookspec
def fascicle_commands() -> dict[str, str]:  # type: ignore[empty-body]
    """Add commands: `fascicle NAME ARGS...`.

    Called: when the command line does not know a word. Return: command to `"module:function"`; the function takes the list of
    arguments and returns the exit status. A name claimed by two plugins is an error that names both. None: no commands.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_commands(self):
    ...         return {"toy": "fascicle_toy.commands:main"}
    """


# ---- verbs: one answer each, from the provider of the chosen option ------------------------------------------------------


@hookspec(firstresult=True)
def fascicle_load_model(cfg: Any, run: RunContext) -> LoadedModel | None:
    """Build or load the model of the option `cfg`.

    Called: first of all verbs. `cfg`: the checked instance of your option's dataclass. `run`: seed, device, dtype, folders.
    Return: a `LoadedModel` on `run.device`, in eval mode. None: an error that names the plugin.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_load_model(self, cfg, run):
    ...         from fascicle_toy.model import load
    ...
    ...         return load(cfg, device=run.device)
    """


@hookspec(firstresult=True)
def fascicle_load_data(cfg: Any, run: RunContext) -> Data | None:
    """Read the data of the option `cfg`.

    Called: after the model option was checked and before the model is loaded, since classes decide the head. Return: a `Data`
    with raw rows by split; rows are turned into features later, by `Data.encode`. None: an error that names the plugin.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_load_data(self, cfg, run):
    ...         from fascicle_toy.data import read
    ...
    ...         return read(cfg.path, seed=run.seed)
    """


@hookspec(firstresult=True)
def fascicle_objective(cfg: Any, run: RunContext) -> Objective | None:
    """Build the loss of the option `cfg`.

    Called: before training. Return: an object with `loss(model, batch, step, num_items) -> LossOutput`; it is called per
    batch, and its schedules are functions of `step`. None: an error that names the plugin.

    >>> from fascicle import LossOutput, hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_objective(self, cfg, run):
    ...         from fascicle_toy.loss import ToyLoss
    ...
    ...         return ToyLoss(weight=cfg.weight)
    """


@hookspec(firstresult=True)
def fascicle_train(
    cfg: Any, model: LoadedModel, data: Data, objective: Objective, run: RunContext
) -> TrainResult | None:
    """Train `model` on `data` under `objective`.

    Called: once, also by a resumed run, which finds its checkpoints under `run.folder` and continues. Return: a `TrainResult`
    whose model may be another object than the one given. None: an error that names the plugin.

    >>> from fascicle import TrainResult, hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_train(self, cfg, model, data, objective, run):
    ...         from fascicle.hf.training import fit
    ...
    ...         fitted = fit(cfg, model, data, objective, run)
    ...         return TrainResult(model=model, history=fitted.history, metrics=fitted.metrics)
    """


@hookspec(firstresult=True)
def fascicle_decoder(cfg: Any, run: RunContext) -> Decoder | None:
    """Build the decoder of the option `cfg`.

    Called: before evaluation. Return: an object with `generate(model, inputs, max_new_tokens=...)`; evaluations that write
    text use it. None: an error that names the plugin.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_decoder(self, cfg, run):
    ...         from fascicle_toy.decoding import ToyDecoder
    ...
    ...         return ToyDecoder(width=cfg.width)
    """


@hookspec(firstresult=True)
def fascicle_evaluate(cfg: Any, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics | None:
    """Measure `model` on `data`.

    Called: last of all verbs. Return: a `Metrics`; give `per_example` where a metric is a mean over rows, so that reports can
    pair them. None: an error that names the plugin.

    >>> from fascicle import Metrics, hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_evaluate(self, cfg, model, data, decoder, run):
    ...         return Metrics(values={"accuracy": 1.0}, primary="accuracy", higher_is_better={"accuracy": True})
    """


# ---- notices: told to the plugins that the run selects; answers are ignored ---------------------------------------------


@hookspec
def fascicle_run_started(config: dict[str, Any], run: RunContext) -> None:
    """A run begins: the configuration is checked, the folder is open, nothing is loaded yet.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_run_started(self, config, run):
    ...         run.logger.info("seed %d", run.seed)
    """


@hookspec
def fascicle_run_finished(config: dict[str, Any], run: RunContext, result: Result) -> None:
    """A run ended well; `result` is about to be written and may be added to (`result.sections`).

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_run_finished(self, config, run, result):
    ...         run.logger.info("done: %s", result.metrics)
    """


@hookspec
def fascicle_run_failed(config: dict[str, Any], run: RunContext, error: BaseException) -> None:
    """A run ended by `error`, which is raised again after this notice.

    >>> from fascicle import hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fascicle_run_failed(self, config, run, error):
    ...         run.logger.error("lost: %s", error)
    """
