"""`training=loradrop`: both stages of the method inside a run, and the controls that could prove it wrong.

Stage 1 probes and plans; the energies are written to the run's folder before stage 2 begins, so that a resumed run does not
probe again. The probe minimises the run's own objective, whatever paper it comes from. With `init=reset` the weights and the head
are put back to where plain LoRA would start under the same seed, so that `threshold=1` is plain LoRA bit for bit.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from fascicle.errors import ConfigError
from fascicle.hf.training import add_lora, fit, save_model
from fascicle.objects import Step, TrainResult
from fascicle.results import atomic_write_text

from .energies import Energies
from .errors import LoraDropError
from .finetune import LoraDropCallback, probe
from .io import compact, save
from .plan import DropPlan
from .reset import reset_adapter
from .sample import stratified_indices
from .stability import compare
from .tie import apply
from .uniform import uniform_rank
from .views import sections

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel, Objective

    from .options import LoraDrop
    from .uniform import UniformRank

__all__ = ["train"]

log = logging.getLogger("fascicle.loradrop")


def train(cfg: LoraDrop, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Train `model` by LoRA-drop, or by the control that `cfg.control` names. Answers `fascicle_train`.

    Raises:
        ConfigError: a budget that no plan meets, a stratum-less data set without rows.
        LoraDropError: a model whose LoRA cannot be scored or shared; see the library's own errors.
    """
    run.seed_everything()
    loaded = add_lora(model, cfg.lora, run)
    initial = _trainable(loaded.model)
    energies, seconds = _probed(cfg, loaded, data, objective, run)
    try:
        plan = _plan(cfg, Energies.mean(energies) if len(energies) > 1 else energies[0], run.seed)
    except LoraDropError as error:
        raise ConfigError(f"training: {error}") from error
    uniform = uniform_rank(plan) if cfg.control == "uniform" else None
    if cfg.init == "reset" or uniform is not None:
        _restore(loaded.model, initial)
    if uniform is not None:
        loaded = _smaller(cfg, loaded, uniform, run)
        callbacks = []
    else:
        apply(loaded.model, plan, init="merge" if cfg.init == "merge" else "keep", shared_grad=cfg.shared_grad)
        callbacks = [LoraDropCallback(plan)]
        log.info(
            "%d of %d modules kept, %.1f %% of LoRA's parameters",
            len(plan.keep),
            len(plan.modules),
            100 * plan.fraction,
        )
    run.seed_everything()
    fitted = fit(cfg, loaded, data, objective, run, callbacks=callbacks)
    artifacts = _saved(cfg, loaded, plan, uniform, run)
    stability = compare(energies) if len(energies) > 1 else None
    return TrainResult(
        model=loaded,
        history=fitted.history,
        metrics={**fitted.metrics, **_facts(plan, uniform, seconds, artifacts)},
        sections=sections(plan, cfg, energies, stability, uniform),
        artifacts=artifacts,
    )


# ---- stage 1 -------------------------------------------------------------------------------------------------------------


def _probed(
    cfg: LoraDrop, loaded: LoadedModel, data: Data, objective: Objective, run: RunContext
) -> tuple[list[Energies], float]:
    """Energies of each probe, and the seconds they took; from the run's folder where an earlier start left them."""
    files = [run.path("loradrop", f"energies-{n}.json") for n in range(cfg.probe.probes)]
    weights = run.path("loradrop", "probe.safetensors")
    timing = run.path("loradrop", "seconds.txt")
    if run.resume and all(f.exists() for f in [*files, weights, timing]):
        log.info("the probe was finished earlier, going on from it")
        _restore(loaded.model, load_file(weights))
        return [Energies.from_json(f.read_text(encoding="utf-8")) for f in files], float(timing.read_text())
    started = time.perf_counter()
    batches = _sample(cfg, loaded, data, run)
    energies = []
    with run.progress("Probing", total=cfg.probe.probes) as bar:
        for n in range(cfg.probe.probes):
            if n:
                reset_adapter(loaded.model, "default", run.seed + n)
            energies.append(_probe(cfg, loaded, objective, batches, run.seed + n))
            bar.advance()
    energies = _agreed(energies, run)
    seconds = time.perf_counter() - started
    if run.is_main:
        for file, e in zip(files, energies, strict=True):
            atomic_write_text(file, e.to_json())
        temporary = weights.with_suffix(".tmp")
        save_file({name: t.contiguous() for name, t in _trainable(loaded.model).items()}, temporary)
        temporary.replace(weights)
        atomic_write_text(timing, f"{seconds}")
    return energies, seconds


def _probe(
    cfg: LoraDrop, loaded: LoadedModel, objective: Objective, batches: list[dict[str, Any]], seed: int
) -> Energies:
    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        return objective.loss(model, dict(batch), Step(0, 1, 0.0)).loss

    return probe(
        loaded.model,
        batches,
        steps=cfg.probe.steps,
        epochs=cfg.probe.epochs,
        lr=cfg.probe.learning_rate,
        seed=seed,
        loss_fn=loss,
        tokens=cfg.probe.tokens,
        base=cfg.normalize == "relative",
        max_grad_norm=cfg.max_grad_norm,
    )


def _sample(cfg: LoraDrop, loaded: LoadedModel, data: Data, run: RunContext) -> list[dict[str, Any]]:
    """Step 1: D_s, drawn by strata (classes, or bins of length), in batches."""
    features = data.encode("train", loaded)
    rows = len(features)
    ratio = min(cfg.probe.ratio, (cfg.probe.max_rows or rows) / rows)
    strata = data.strata("train") if data.strata is not None else None
    if (strata is not None and len(strata) and isinstance(strata[0], str)) or (strata is not None and data.label_names):
        chosen = stratified_indices(strata, ratio, run.seed)
    else:
        lengths = strata if strata is not None else [len(row) for row in features["input_ids"]]
        chosen = stratified_indices(lengths=lengths, ratio=ratio, seed=run.seed)
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(run.seed)).tolist()
    picked = [int(chosen[i]) for i in order]
    collate = data.collate(loaded)
    size = cfg.probe.batch_size
    return [collate([features[i] for i in picked[start : start + size]]) for start in range(0, len(picked), size)]


def _agreed(energies: list[Energies], run: RunContext) -> list[Energies]:
    """Every process plans from the first one's energies: a last bit must not make two plans."""
    if run.world_size == 1:
        return energies
    from accelerate.utils import broadcast_object_list

    texts = broadcast_object_list([e.to_json() for e in energies])
    return [Energies.from_json(text) for text in texts]


def _plan(cfg: LoraDrop, energies: Energies, seed: int) -> DropPlan:
    """Steps 4 and 5, then the control if one is asked for."""
    plan = DropPlan.from_energies(
        energies,
        threshold=cfg.threshold,
        keep=cfg.keep,
        budget=cfg.budget,
        scope=cfg.scope,
        normalize=cfg.normalize,
        share_by=cfg.share_by,
        floor=cfg.floor,
    )
    if cfg.control == "random":
        return plan.randomize(seed, match=cfg.match)
    if cfg.control == "inverse":
        return plan.invert(match=cfg.match)
    return plan


# ---- stage 2 -------------------------------------------------------------------------------------------------------------


def _trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def _restore(model: torch.nn.Module, values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                parameter.copy_(values[name])


def _smaller(cfg: LoraDrop, loaded: LoadedModel, uniform: UniformRank, run: RunContext) -> LoadedModel:
    """The equal-size control: the same targets, a smaller rank, the same scaling; a fresh adapter on the same base."""
    from peft import get_peft_model

    peft_model: Any = loaded.model
    config = uniform.lora_config(peft_model.peft_config["default"])
    base = peft_model.unload()  # the head, put back to its start before, stays on it
    run.seed_everything()
    loaded.model = get_peft_model(base, config)
    return loaded


def _saved(
    cfg: LoraDrop, loaded: LoadedModel, plan: DropPlan, uniform: UniformRank | None, run: RunContext
) -> dict[str, Path]:
    if not run.is_main:
        return {}
    folder = run.path("model")
    if uniform is not None:
        save_model(loaded, run)
        return {"model": folder}
    artifacts = {"model": save(loaded.model, plan, folder)}
    if cfg.compact and plan.groups:
        artifacts["compact"] = compact(folder, run.path("model-compact"))
    return artifacts


def _facts(plan: DropPlan, uniform: UniformRank | None, seconds: float, artifacts: dict[str, Path]) -> dict[str, float]:
    lora = uniform.parameters_exact if uniform is not None else plan.parameters_after
    facts = {
        "lora_parameters": float(lora),
        "lora_fraction": lora / plan.parameters_before,
        "kept_modules": float(len(plan.keep)) if uniform is None else float(len(plan.modules)),
        "probe_seconds": seconds,
    }
    for name, folder in artifacts.items():
        files = list(Path(folder).glob("*.safetensors"))
        facts[f"{name}_bytes"] = float(sum(f.stat().st_size for f in files))
    return facts
