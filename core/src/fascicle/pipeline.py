"""A run, as a table of contents: check, open, data, model, objective, training, decoding, evaluation, result."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .config import check, compose
from .context import RESULT_FILE, open_run
from .plugins import manager
from .provenance import provenance, utc_now
from .results import Result, read_result, write_result

if TYPE_CHECKING:
    from .config import Checked
    from .context import RunContext
    from .objects import Data, Metrics, TrainResult
    from .plugins import Verbs

__all__ = ["run"]


def run(config: Mapping[str, Any] | Sequence[str] = (), *, overrides: Sequence[str] = ()) -> Result:
    """Run one configuration to its result, which is also written to the run's folder as `result.json`.

    Args:
        config: overrides as the command line takes them (`["experiment=smoke", "seed=2"]`), or what `compose` gave.
        overrides: what to name the folder after, where `config` is composed already.

    Raises:
        ConfigError, PluginError: before anything heavy is imported.
        OutputFolderError: before anything is loaded.
        SourceError, DataError, ResultError: see there.
    """
    if not isinstance(config, Mapping):
        overrides, config = list(config), compose(config)
    checked = check(config)
    verbs = manager().verbs(checked.providers, also=[*_experiment_owner(checked), *checked.run.plugins])
    with open_run(checked, overrides) as context:
        if context.resume and (context.folder / RESULT_FILE).exists():
            context.logger.info("finished already: %s", context.folder)
            return read_result(context.folder)
        started = utc_now()
        try:
            verbs.started(checked.config, context)
            data, trained, metrics = _work(checked, verbs, context)
            result = _result(checked, verbs, context, started, data, trained, metrics)
            verbs.finished(checked.config, context, result)
        except BaseException as error:
            with contextlib.suppress(Exception):  # the first error is the one to see
                verbs.failed(checked.config, context, error)
            raise
        if context.is_main:
            write_result(context.folder, result)
            context.logger.info("result in %s", context.folder)
        return result


def _work(checked: Checked, verbs: Verbs, run: RunContext) -> tuple[Data, TrainResult, Metrics]:
    cfg = {group: option.value for group, option in checked.options.items()}
    run.seed_everything()
    with run.timed("data"):
        data = verbs.load_data(cfg["data"], run)
        run.label_names = list(data.label_names) if data.label_names is not None else None
        run.num_labels = max(1, len(run.label_names)) if run.label_names is not None else None
    run.seed_everything()
    with run.timed("model"):
        model = verbs.load_model(cfg["model"], run)
        base = (model.source, model.fingerprint, model.name)
    objective = verbs.objective(cfg["objective"], run)
    run.seed_everything()
    with run.timed("training"):
        trained = verbs.train(cfg["training"], model, data, objective, run)
        trained.model.source, trained.model.fingerprint, trained.model.name = base
    decoder = verbs.decoder(cfg["decoding"], run)
    run.seed_everything()
    with run.timed("evaluation"):
        metrics = verbs.evaluate(cfg["evaluation"], trained.model, data, decoder, run)
        metrics.sections += decoder.sections()
    return data, trained, metrics


def _result(
    checked: Checked, verbs: Verbs, run: RunContext, started: str, data: Data, trained: TrainResult, metrics: Metrics
) -> Result:
    return Result(
        name=checked.name,
        label=run.label,
        identity=checked.identity,
        seed=checked.seed,
        choices=dict(checked.choices),
        config={key: value for key, value in checked.config.items() if key != "run"},
        metrics=dict(metrics.values),
        primary=metrics.primary,
        higher_is_better=dict(metrics.higher_is_better),
        units=dict(metrics.units),
        per_example={name: list(values) for name, values in metrics.per_example.items()},
        history=trained.history,
        training=dict(trained.metrics),
        sections=[*trained.sections, *metrics.sections],
        provenance=provenance(verbs.active, run, trained.model, data),
        timings=dict(run.timings),
        started=started,
        finished=utc_now(),
    )


def _experiment_owner(checked: Checked) -> list[str]:
    """The plugin that ships the chosen experiment is active in it."""
    owners = manager().option_owners().get(("experiment", checked.choices.get("experiment", "none")), [])
    return [plugin for plugin, _ in owners]
