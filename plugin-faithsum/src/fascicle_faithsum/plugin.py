"""The hooks. Light: torch and transformers are imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.hookspecs import hookimpl
from fascicle.info import PluginInfo

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel, Metrics, Objective

    from .options import FaithsumFacts, FaithsumFaithfulness, FaithsumModel, FaithsumSummaries
    from .recipe import Recipe

__all__ = [
    "fascicle_commands",
    "fascicle_config_packages",
    "fascicle_evaluate",
    "fascicle_load_data",
    "fascicle_load_model",
    "fascicle_objective",
    "fascicle_plugin_info",
]

_OPTIONS = "fascicle_faithsum.options"


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """Who we are."""
    return PluginInfo(
        name="faithsum",
        title="Summaries with induced guidance (a conditional VAE), and faithfulness one can measure",
        paper=(
            "Wang Xu, Tiejun Zhao. Jointly Learning Guidance Induction and Faithful Summary Generation via Conditional "
            "Variational Autoencoders. Findings of NAACL 2022."
        ),
        bibtex="""@inproceedings{xu-zhao-2022-jointly,
  title = {Jointly Learning Guidance Induction and Faithful Summary Generation via Conditional Variational Autoencoders},
  author = {Xu, Wang and Zhao, Tiejun},
  booktitle = {Findings of the Association for Computational Linguistics: NAACL 2022},
  year = {2022},
  doi = {10.18653/v1/2022.findings-naacl.180},
}""",
        options={
            "model/faithsum_guided_bart": f"{_OPTIONS}:FaithsumModel",
            "data/faithsum_facts": f"{_OPTIONS}:FaithsumFacts",
            "data/faithsum_summaries": f"{_OPTIONS}:FaithsumSummaries",
            "objective/faithsum_guidance": "fascicle_faithsum.recipe:Recipe",
            "evaluation/faithsum_faithfulness": f"{_OPTIONS}:FaithsumFaithfulness",
        },
    )


@hookimpl
def fascicle_config_packages() -> list[str]:
    """Where the option files are."""
    return ["fascicle_faithsum.conf"]


@hookimpl
def fascicle_commands() -> dict[str, str]:
    """`fascicle faithsum summarize|score|meta|...`."""
    return {"faithsum": "fascicle_faithsum.commands:main"}


@hookimpl
def fascicle_load_model(cfg: FaithsumModel, run: RunContext) -> LoadedModel:
    """A base with guidance, or its twin without."""
    from .loading import load

    return load(cfg, run)


@hookimpl
def fascicle_load_data(cfg: FaithsumFacts | FaithsumSummaries, run: RunContext) -> Data:
    """Documents of facts, or documents with summaries from files."""
    from .data import load

    return load(cfg, run)


@hookimpl
def fascicle_objective(cfg: Recipe, run: RunContext) -> Objective:
    """The negative ELBO under a recipe."""
    from .objective import Guided

    return Guided(cfg)


@hookimpl
def fascicle_evaluate(
    cfg: FaithsumFaithfulness, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext
) -> Metrics:
    """Summaries, their faithfulness, and the latent variable."""
    from .evaluation import evaluate

    return evaluate(cfg, model, data, decoder, run)
