"""The hooks. Light: torch and transformers are imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fascicle.hookspecs import hookimpl
from fascicle.info import PluginInfo

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel, Metrics, Objective, TrainResult

    from .draft_options import OuroborosAcceptance, OuroborosDraft
    from .options import Ouroboros

__all__ = [
    "fascicle_config_packages",
    "fascicle_decoder",
    "fascicle_evaluate",
    "fascicle_plugin_info",
    "fascicle_run_started",
    "fascicle_train",
]


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """Who we are."""
    return PluginInfo(
        name="ouroboros",
        title="Lossless speculative decoding that drafts, lengthens and recycles phrases",
        paper=(
            "Zhao, Huang, Han, Xu, Xiao, Zhang, Fang, Zhang, Liu, Sun. Ouroboros: Generating Longer Drafts Phrase by Phrase for "
            "Faster Speculative Decoding. EMNLP 2024."
        ),
        bibtex="""@inproceedings{zhao-etal-2024-ouroboros,
  title = {Ouroboros: Generating Longer Drafts Phrase by Phrase for Faster Speculative Decoding},
  author = {Zhao, Weilin and Huang, Yuxiang and Han, Xu and Xu, Wang and Xiao, Chaojun and Zhang, Xinrong and Fang, Yewei and
    Zhang, Kaihuo and Liu, Zhiyuan and Sun, Maosong},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year = {2024},
}""",
        options={
            "decoding/ouroboros": "fascicle_ouroboros.options:Ouroboros",
            "evaluation/ouroboros_acceptance": "fascicle_ouroboros.draft_options:OuroborosAcceptance",
            "training/ouroboros_draft": "fascicle_ouroboros.draft_options:OuroborosDraft",
        },
    )


@hookimpl
def fascicle_config_packages() -> list[str]:
    """Where the option files are."""
    return ["fascicle_ouroboros.conf"]


@hookimpl
def fascicle_decoder(cfg: Ouroboros, run: RunContext) -> Decoder:
    """Decode with drafted phrases."""
    from .decoding import decoder

    return decoder(cfg, run)


@hookimpl
def fascicle_run_started(config: dict[str, Any], run: RunContext) -> None:
    """Refuse drafts that cannot be made or found, before anything is loaded."""
    from .draft_checks import check

    check(config)


@hookimpl
def fascicle_train(
    cfg: OuroborosDraft, model: LoadedModel, data: Data, objective: Objective, run: RunContext
) -> TrainResult:
    """Make a draft model for the run's model."""
    from .draft_training import train

    return train(cfg, model, data, objective, run)


@hookimpl
def fascicle_evaluate(
    cfg: OuroborosAcceptance, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext
) -> Metrics:
    """How much of a draft model's text the target accepts."""
    from .acceptance import evaluate

    return evaluate(cfg, model, data, decoder, run)
