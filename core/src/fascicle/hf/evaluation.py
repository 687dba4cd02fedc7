"""The core's evaluations: classification and perplexity here, generated text in `generation`.

In a distributed run the main process evaluates and tells the others, which wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError, FascicleError
from ..objects import Block, Metrics, Section
from .objective import IGNORED, shifts_labels
from .training_options import Classification, Generation, Perplexity

if TYPE_CHECKING:
    from ..context import RunContext
    from ..objects import Data, Decoder, LoadedModel
    from .training_options import DecodingSpeed

__all__ = ["classification", "evaluate", "perplexity", "rows_of"]


def evaluate(
    cfg: Classification | Perplexity | Generation | DecodingSpeed,
    model: LoadedModel,
    data: Data,
    decoder: Decoder,
    run: RunContext,
) -> Metrics:
    """Answer of `fascicle_evaluate`.

    Raises:
        DataError: no rows, or rows without what the measure needs.
    """
    model.model.eval()
    if isinstance(cfg, Classification):
        return on_main(run, lambda: classification(cfg, model, data, run))
    if isinstance(cfg, Perplexity):
        return on_main(run, lambda: perplexity(cfg, model, data, run))
    from .generation import decoding_speed, generation

    if isinstance(cfg, Generation):
        return on_main(run, lambda: generation(cfg, model, data, decoder, run))
    return on_main(run, lambda: decoding_speed(cfg, model, data, decoder, run))


def on_main(run: RunContext, measure: Callable[[], Metrics]) -> Metrics:
    """Measure on the main process, and hand its metrics (or its error) to the others, however long they wait."""
    if run.world_size == 1:
        return measure()
    import torch.distributed as dist

    group = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    told: list[Any] = [None]
    if run.is_main:
        try:
            told = [measure()]
        except Exception as error:
            dist.broadcast_object_list(
                [FascicleError(f"the main process could not evaluate: {error}")], src=0, group=group
            )
            raise
    dist.broadcast_object_list(told, src=0, group=group)
    if isinstance(told[0], FascicleError):
        raise told[0]
    metrics: Metrics = told[0]
    return metrics


def rows_of(cfg: Any, data: Data, model: LoadedModel) -> tuple[str, Any]:
    """The split that an evaluation option means, and its encoded rows.

    Raises:
        DataError: the data has no such split, or it is empty.
    """
    split = cfg.split or next((s for s in ("test", "validation") if s in data.splits), "test")
    if split not in data.splits:
        raise DataError(
            f"evaluation.split: the data {data.name!r} has no split {split!r}, only {sorted(data.splits)}; "
            "name one of them in evaluation.split"
        )
    features = data.encode(split, model)
    features = features if cfg.rows is None else features.select(range(min(cfg.rows, len(features))))
    if len(features) == 0:
        raise DataError(f"evaluation.split: {split!r} of {data.name!r} has no rows, expected at least one")
    return split, features


# ---- classification -----------------------------------------------------------------------------------------------------


def classification(cfg: Classification, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """Accuracy, macro F1, Matthews correlation (of two classes), mean negative log-likelihood; of a regression, error and ranks.

    The primary metric is accuracy (for regression the Spearman correlation), or what `data.extra["primary"]` names.

    Raises:
        DataError: rows without a label.
    """
    _, features = rows_of(cfg, data, model)
    logits, labels = _predict(cfg, model, data, features, run)
    if logits.shape[-1] == 1 or labels.is_floating_point():
        return _regression(logits.squeeze(-1), labels, data)
    from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef

    predicted = logits.argmax(-1)
    correct = (predicted == labels).double()
    nll = F.cross_entropy(logits.double(), labels, reduction="none")
    y, p = labels.numpy(), predicted.numpy()
    values = {
        "accuracy": correct.mean().item(),
        "macro_f1": float(f1_score(y, p, average="macro", zero_division=0)),
        "nll": nll.mean().item(),
    }
    classes = logits.shape[-1]
    if classes == 2:
        values["mcc"] = float(matthews_corrcoef(y, p))
    names = list(data.label_names or [str(c) for c in range(classes)])
    blocks = []
    if classes <= 30:
        counts = confusion_matrix(y, p, labels=range(classes)).tolist()
        grid = {"rows": [f"is {n}" for n in names], "columns": [f"taken for {n}" for n in names], "values": counts}
        blocks = [Block(kind="heatmap", title="Classes and predictions", data={**grid, "unit": "rows"})]
    return Metrics(
        values=values,
        primary=_primary(data, values, "accuracy"),
        higher_is_better={name: name != "nll" for name in values},
        per_example={"accuracy": correct.tolist(), "nll": nll.tolist()},
        sections=[Section(title="Classification", blocks=blocks, plugin="hf")],
    )


def _predict(
    cfg: Classification, model: LoadedModel, data: Data, features: Any, run: RunContext
) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,), on the CPU, in the order of the rows."""
    logits: list[Tensor] = [torch.empty(0)] * len(features)
    labels: list[Any] = [None] * len(features)
    with torch.no_grad(), run.progress("Classifying", total=len(features)) as bar:
        for indices, batch in batches_by_length(features, cfg.batch_size, data.collate(model), model):
            if not isinstance(found := batch.pop("labels", None), Tensor) or found.dim() != 1:
                raise DataError(
                    f"evaluation: rows of {data.name!r} have no single label, expected one class or number per row"
                )
            out = model.model(**batch).logits.float().cpu()  # (B, C)
            for i, index in enumerate(indices):
                logits[index], labels[index] = out[i], found[i].item()
            bar.advance(len(indices))
    return torch.stack(logits), torch.tensor(labels)


def _regression(predicted: Tensor, labels: Tensor, data: Data) -> Metrics:
    from scipy.stats import pearsonr, spearmanr

    error = (predicted.double() - labels.double()).square()
    spread = len(labels) > 1 and predicted.std() > 0 and labels.double().std() > 0
    values = {
        "mse": error.mean().item(),
        "pearson": float(pearsonr(predicted, labels).statistic) if spread else 0.0,
        "spearman": float(spearmanr(predicted, labels).statistic) if spread else 0.0,
    }
    return Metrics(
        values=values,
        primary=_primary(data, values, "spearman"),
        higher_is_better={name: name != "mse" for name in values},
        per_example={"mse": error.tolist()},
    )


def _primary(data: Data, values: dict[str, float], usual: str) -> str:
    wanted = str(data.extra.get("primary", usual))
    return wanted if wanted in values else usual


# ---- perplexity ---------------------------------------------------------------------------------------------------------


def perplexity(cfg: Perplexity, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """exp of the mean of −log p(token | the true tokens before it) over all targets; labels of −100 are no targets.

    Raises:
        DataError: rows without labels, or without any target.
    """
    _, features = rows_of(cfg, data, model)
    shifted = shifts_labels(model.model)
    sums, counts = [0.0] * len(features), [0.0] * len(features)
    with torch.no_grad(), run.progress("Perplexity", total=len(features)) as bar:
        for indices, batch in batches_by_length(features, cfg.batch_size, data.collate(model), model):
            labels = batch.get("labels")
            if not isinstance(labels, Tensor) or labels.dim() != 2:
                raise DataError(
                    f"evaluation: rows of {data.name!r} have no labels per token, expected a column `labels`"
                )
            logits = model.model(**batch).logits  # (B, L, V)
            for i, index in enumerate(indices):
                row, target = (logits[i, :-1], labels[i, 1:]) if shifted else (logits[i], labels[i])
                sums[index] = F.cross_entropy(row.float(), target, ignore_index=IGNORED, reduction="sum").item()
                counts[index] = float(target.ne(IGNORED).sum())
            bar.advance(len(indices))
    tokens = sum(counts)
    if tokens == 0:
        raise DataError(f"evaluation: no row of {data.name!r} has a target, all labels are -100")
    nll = math.fsum(sums) / tokens
    return Metrics(
        values={
            "perplexity": math.exp(min(nll, 700.0)),
            "nll": nll,
            "nll_per_row": math.fsum(sums) / len(sums),
            "tokens_per_row": tokens / len(sums),
        },
        primary="perplexity",
        higher_is_better={"perplexity": False, "nll": False, "nll_per_row": False},
        per_example={"nll_per_row": sums, "tokens_per_row": counts},
        units={"nll": "nats per token", "nll_per_row": "nats"},
    )


# ---- batches ------------------------------------------------------------------------------------------------------------


def batches_by_length(
    features: Any, size: int, collate: Callable[[list[dict[str, Any]]], dict[str, Any]], model: LoadedModel
) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
    """Batches of rows of like length, longest first, with the rows' numbers; on the model's device."""
    device = next(model.model.parameters()).device
    order = list(range(len(features)))
    if "input_ids" in getattr(features, "column_names", []):
        lengths = [len(ids) for ids in features["input_ids"]]
        order.sort(key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        batch = collate([features[i] for i in indices])
        yield indices, {name: v.to(device) if isinstance(v, Tensor) else v for name, v in batch.items()}
