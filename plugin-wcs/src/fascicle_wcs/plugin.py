"""The hooks. Light: numpy, torch and transformers are imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.hookspecs import hookimpl
from fascicle.info import PluginInfo

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel, Metrics, Objective, TrainResult

    from .options import (
        WcsBli,
        WcsData,
        WcsIda,
        WcsIsomorphism,
        WcsMap,
        WcsPlantedData,
        WcsPlantedModel,
        WcsSmallLm,
        WcsStatic,
        WcsTexts,
        WcsTranslation,
        WcsWordllama,
    )

__all__ = [
    "fascicle_commands",
    "fascicle_config_packages",
    "fascicle_evaluate",
    "fascicle_load_data",
    "fascicle_load_model",
    "fascicle_plugin_info",
    "fascicle_run_finished",
    "fascicle_train",
]

_OPTIONS = "fascicle_wcs.options"


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """Who we are."""
    return PluginInfo(
        name="wcs",
        title="Word vectors of two languages from any layer, maps between them, and lexicons from the maps",
        paper=("Word-level Cross-lingual Structure in Large Language Models. COLING 2025, pages 2026-2037."),
        bibtex="""@inproceedings{wcs-2025-word,
  title = {Word-level Cross-lingual Structure in Large Language Models},
  booktitle = {Proceedings of the 31st International Conference on Computational Linguistics},
  pages = {2026--2037},
  year = {2025},
  url = {https://aclanthology.org/2025.coling-main.138},
}""",
        options={
            "model/wcs_static": f"{_OPTIONS}:WcsStatic",
            "model/wcs_wordllama": f"{_OPTIONS}:WcsWordllama",
            "model/wcs_planted": f"{_OPTIONS}:WcsPlantedModel",
            "model/wcs_small_lm": f"{_OPTIONS}:WcsSmallLm",
            "data/wcs_dictionary": f"{_OPTIONS}:WcsData",
            "data/wcs_planted": f"{_OPTIONS}:WcsPlantedData",
            "data/wcs_texts": f"{_OPTIONS}:WcsTexts",
            "training/wcs_map": f"{_OPTIONS}:WcsMap",
            "training/wcs_ida": f"{_OPTIONS}:WcsIda",
            "evaluation/wcs_bli": f"{_OPTIONS}:WcsBli",
            "evaluation/wcs_isomorphism": f"{_OPTIONS}:WcsIsomorphism",
            "evaluation/wcs_translation": f"{_OPTIONS}:WcsTranslation",
        },
    )


@hookimpl
def fascicle_config_packages() -> list[str]:
    """Where the option files are."""
    return ["fascicle_wcs.conf"]


@hookimpl
def fascicle_commands() -> dict[str, str]:
    """`fascicle wcs map|translate|neighbours`."""
    return {"wcs": "fascicle_wcs.commands:main"}


@hookimpl
def fascicle_load_model(cfg: WcsStatic | WcsWordllama | WcsPlantedModel | WcsSmallLm, run: RunContext) -> LoadedModel:
    """Static vectors of two languages, or a small language model to train."""
    from .options import WcsSmallLm

    if isinstance(cfg, WcsSmallLm):
        from .corpus import load_small_lm

        return load_small_lm(cfg, run)
    from .loading import load

    return load(cfg, run)


@hookimpl
def fascicle_load_data(cfg: WcsData | WcsPlantedData | WcsTexts, run: RunContext) -> Data:
    """A dictionary to learn from, one to measure on, and the words to choose from; or texts for a language model."""
    from .options import WcsTexts

    if isinstance(cfg, WcsTexts):
        from .corpus import load_texts

        return load_texts(cfg, run)
    from .data import load

    return load(cfg, run)


@hookimpl
def fascicle_train(
    cfg: WcsMap | WcsIda, model: LoadedModel, data: Data, objective: Objective, run: RunContext
) -> TrainResult:
    """Fit maps, or grow a dictionary."""
    from .options import WcsIda

    if isinstance(cfg, WcsIda):
        from .augmentation import train_ida

        return train_ida(cfg, model, data, run)
    from .training import train_map

    return train_map(cfg, model, data, run)


@hookimpl
def fascicle_evaluate(
    cfg: WcsBli | WcsIsomorphism | WcsTranslation, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext
) -> Metrics:
    """Lexicon induction by retrieval or by asking, or how alike two spaces are."""
    from .options import WcsBli, WcsIsomorphism

    if isinstance(cfg, WcsBli):
        from .evaluation import evaluate_bli

        return evaluate_bli(cfg, model, data, run)
    if isinstance(cfg, WcsIsomorphism):
        from .evaluation import evaluate_isomorphism

        return evaluate_isomorphism(cfg, model, data, run)
    from .translation import evaluate_translation

    return evaluate_translation(cfg, model, data, run)


@hookimpl
def fascicle_run_finished(run: RunContext) -> None:
    """States of words are large and only serve a run that is to be continued."""
    import shutil

    if run.is_main:
        shutil.rmtree(run.folder / "states", ignore_errors=True)
