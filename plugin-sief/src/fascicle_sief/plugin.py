"""The hooks. Light: torch and transformers are imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.hookspecs import hookimpl
from fascicle.info import PluginInfo

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel, Metrics, Objective

    from .dialogre_options import SiefDialogre
    from .options import SiefDocre, SiefDocuments, SiefFocusing, SiefModel, SiefPlanted

__all__ = [
    "fascicle_commands",
    "fascicle_config_packages",
    "fascicle_evaluate",
    "fascicle_load_data",
    "fascicle_load_model",
    "fascicle_objective",
    "fascicle_plugin_info",
]


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """Who we are."""
    return PluginInfo(
        name="sief",
        title="Document-level relation extraction that relies on evidence: sentence importance and focusing",
        paper=(
            "Xu, Chen, Mou, Zhao. Document-Level Relation Extraction with Sentences Importance Estimation and Focusing. NAACL 2022."
        ),
        bibtex="""@inproceedings{xu-etal-2022-document,
  title = {Document-Level Relation Extraction with Sentences Importance Estimation and Focusing},
  author = {Xu, Wang and Chen, Kehai and Mou, Lili and Zhao, Tiejun},
  booktitle = {Proceedings of the 2022 Conference of the North American Chapter of the Association for Computational
    Linguistics: Human Language Technologies},
  year = {2022},
}""",
        options={
            "model/sief_model": "fascicle_sief.options:SiefModel",
            "data/sief_documents": "fascicle_sief.options:SiefDocuments",
            "data/sief_planted": "fascicle_sief.options:SiefPlanted",
            "objective/sief_focusing": "fascicle_sief.options:SiefFocusing",
            "evaluation/sief_docre": "fascicle_sief.options:SiefDocre",
            "evaluation/sief_dialogre": "fascicle_sief.dialogre_options:SiefDialogre",
        },
    )


@hookimpl
def fascicle_config_packages() -> list[str]:
    """Where the option files are."""
    return ["fascicle_sief.conf"]


@hookimpl
def fascicle_commands() -> dict[str, str]:
    """`fascicle sief predict|score`."""
    return {"sief": "fascicle_sief.commands:main"}


@hookimpl
def fascicle_load_model(cfg: SiefModel, run: RunContext) -> LoadedModel:
    """A head for relations on an encoder."""
    from .loading import load

    return load(cfg, run)


@hookimpl
def fascicle_load_data(cfg: SiefDocuments | SiefPlanted, run: RunContext) -> Data:
    """Documents from files, or planted ones."""
    from .data import load

    return load(cfg, run)


@hookimpl
def fascicle_objective(cfg: SiefFocusing, run: RunContext) -> Objective:
    """The focusing loss or one of its controls."""
    from .objective import Focusing

    return Focusing(
        cfg.mode,
        beta=cfg.beta,
        detach_target=cfg.detach_target,
        include_na=cfg.include_na,
        sentences=cfg.sentences,
        weight=cfg.weight,
        warmup=cfg.warmup,
        negatives=cfg.negatives,
        min_negatives=cfg.min_negatives,
        distance=cfg.distance,
        one_pass=cfg.one_pass,
        seed=run.seed,
    )


@hookimpl
def fascicle_evaluate(
    cfg: SiefDocre | SiefDialogre, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext
) -> Metrics:
    """Relations by DocRED's rules, robustness and evidence; or by DialogRE's rules."""
    from .dialogre_options import SiefDialogre

    if isinstance(cfg, SiefDialogre):
        from .dialogre_evaluation import evaluate_dialogre

        return evaluate_dialogre(cfg, model, data, run)
    from .evaluation import evaluate

    return evaluate(cfg, model, data, run)
