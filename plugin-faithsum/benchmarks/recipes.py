"""Which recipe keeps the latent variable in use: documents of three facts, a tiny BART, several recipes and seeds.

    python benchmarks/recipes.py run RECIPE... [--seeds 0 1 2] [--steps 900] [--latent sentence] [--set FIELD=VALUE]
                                               [--without separate matching secant]
    python benchmarks/recipes.py table

Each run adds a line to results/recipes.jsonl, with a fingerprint of the code of the model and its loss: compare lines of the same
code only. Documents are drawn anew for every step, so nothing can be learnt by heart.

posterior_nll, kl, ...  of `diagnose`, in nats per document; the documents leave 0.76 nats open of which fact is told
map, sample, posterior  share of summaries that state a fact of the document, under that guidance, decoded greedily
hit                     of those under the posterior's guidance, that state the fact of the reference
hit_shuffled            the same under the posterior's guidance for the document before
forced                  share that state fact k when guidance is set to fact k
q_target, p_cue         how often the posterior's likeliest sentence is the reference's fact, and the prior's the cued one
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import inspect
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import BartConfig, BartForConditionalGeneration

from fascicle_faithsum.attention import GuidanceAttention
from fascicle_faithsum.diagnostics import diagnose
from fascicle_faithsum.modeling import GuidedForConditionalGeneration
from fascicle_faithsum.planted import fact_documents
from fascicle_faithsum.recipe import Recipe

if TYPE_CHECKING:
    from fascicle_faithsum.planted import FactDocument

RESULTS = Path(__file__).parent / "results" / "recipes.jsonl"
BATCH, TESTED = 32, 256
BEGIN, PAD, END, STOP = 0, 1, 2, 3

_PLAIN = Recipe(beta_warmup=0.0, tau=1.0, tau_end=1.0, source_dropout=0.0, teacher_weight=0.0, through_draw=True)

RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "elbo": dataclasses.replace(_PLAIN, beta=1.0, balance=False),
    "balanced": _PLAIN,
    "warmup": dataclasses.replace(_PLAIN, beta_warmup=0.3),
    "teacher": dataclasses.replace(_PLAIN, beta_warmup=0.3, teacher_weight=1.0, through_draw=False, source_dropout=1.0),
    "tag": dataclasses.replace(_PLAIN, tag_weight=1.0),
    "warmup_tag": dataclasses.replace(_PLAIN, beta_warmup=0.3, tag_weight=1.0),
    "source_dropout": dataclasses.replace(_PLAIN, beta_warmup=0.3, source_dropout=0.5),
    "hot": dataclasses.replace(_PLAIN, beta_warmup=0.3, tau=4.0, tau_end=0.5),
    "hot_source_dropout": dataclasses.replace(_PLAIN, beta_warmup=0.3, tau=4.0, tau_end=0.5, source_dropout=0.5),
    "source_dropout_only": dataclasses.replace(_PLAIN, beta=1.0, balance=False, source_dropout=0.5),
}


def fingerprint() -> str:
    """Of the code that decides what a run measures, as it is imported."""
    digest = hashlib.sha256()
    for name in ("attention", "guided", "heads", "induction", "latents", "planted", "recipe"):
        module = importlib.import_module(f"fascicle_faithsum.{name}")
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:12]


class Words:
    """Numbers for the words of the documents."""

    def __init__(self) -> None:
        texts = [f"{d.text} {d.summary}" for d in fact_documents(3000, seed=0)]
        self.words = ["<s>", "<pad>", "</s>", ".", *sorted({word for text in texts for word in text.split()} - {"."})]
        self.number = {word: i for i, word in enumerate(self.words)}

    def ids(self, text: str) -> list[int]:
        return [self.number[word] for word in text.split()]

    def text(self, ids: list[int]) -> str:
        return " ".join(self.words[i] for i in ids if i > END)

    def batch(self, documents: list[FactDocument]) -> dict[str, torch.Tensor]:
        sources = [[BEGIN, *self.ids(d.text), END] for d in documents]
        longest = max(map(len, sources))
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in sources])
        segments = torch.full_like(ids, -1)
        for row, document in enumerate(documents):
            at = 1
            for k, sentence in enumerate(document.sentences):
                segments[row, at : (at := at + len(sentence.split()))] = k
        tags = torch.tensor([[float(k == d.target) for k in range(len(d.sentences))] for d in documents])
        return {
            "input_ids": ids,
            "attention_mask": (ids != PAD).long(),
            "segment_ids": segments,
            "labels": torch.tensor([[*self.ids(d.summary), END] for d in documents]),
            "guidance_tags": tags,
        }


def tiny(words: Words, latent: str, seed: int) -> Any:
    """A tiny guided BART with random weights."""
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=len(words.words),
        d_model=48,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        max_position_embeddings=40,
        dropout=0.0,
        bos_token_id=BEGIN,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=END,
        forced_eos_token_id=None,
        init_std=0.1,
    )
    return GuidedForConditionalGeneration.from_base(
        BartForConditionalGeneration(config), latent_type=latent, latent_size=8, boundary_ids=[STOP]
    )


def without(model: Any, part: str) -> None:
    """Take a part of the design away, for the ablation.

    `separate`: the memory holds the encoder's own states, each of which knows the whole document. `matching`: the recognition
    network sees [H ; A] alone, without difference and product, and reads with random matrices. `secant`: the gradient by a closed
    gate is the derivative there, not what opening it changes.
    """
    if part == "secant":
        for module in model.modules():
            if isinstance(module, GuidanceAttention):
                module.secant = lambda odds, gate, segments: torch.ones_like(odds)
        return
    if part == "separate":
        source = model._source

        def contextual(states: torch.Tensor, *args: Any) -> Any:
            return dataclasses.replace(source(states, *args), embedded=states)

        model._source = contextual
        return
    head = model.guidance_posterior
    for projection in (head.attention.q_proj, head.attention.k_proj, head.attention.v_proj, head.attention.out_proj):
        torch.nn.init.normal_(projection.weight, std=model.config.init_std)
    with torch.no_grad():
        head.dense.weight[:, 2 * model.config.d_model :] = 0.0
    head.dense.weight.register_hook(lambda gradient: gradient * (head.dense.weight != 0))


def train(model: Any, words: Words, recipe: Recipe, steps: int, seed: int, rate: float) -> None:
    """AdamW on documents drawn anew."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    model.recipe = recipe
    model.train()
    for step, documents in enumerate(_batches(steps, seed)):
        model.progress = step / steps
        batch = words.batch(documents)
        if not recipe.tag_weight:
            del batch["guidance_tags"]
        out = model(**batch)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            parts = {name: round(float(value), 3) for name, value in out.parts.items()}
            if model.config.latent_type == "sentence":
                hits = out.posterior.argmax(-1) == torch.tensor([d.target for d in documents])
                parts["q_target"] = round(hits.float().mean().item(), 2)
            print(f"  step {step + 1} {parts}", flush=True)


def _batches(steps: int, seed: int) -> Iterator[list[FactDocument]]:
    for step in range(steps):
        yield fact_documents(BATCH, seed=1_000_003 * (seed + 1) + step)


@torch.no_grad()
def measure(model: Any, words: Words) -> dict[str, float]:
    """Everything that the table shows, on documents of another seed."""
    model.eval()
    documents = fact_documents(TESTED, seed=-1)
    batch = words.batch(documents)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "segment_ids")}
    found = diagnose(model, [batch]).values()

    def stated(**guidance: Any) -> list[int | None]:
        told = model.generate(**inputs, **guidance, num_beams=1, do_sample=False, max_new_tokens=10)
        return [d.stated(words.text(ids)) for d, ids in zip(documents, told.tolist(), strict=True)]

    def share(answers: list[int | None], wanted: list[int] | None = None) -> float:
        hits = [a is not None if wanted is None else a == wanted[i] for i, a in enumerate(answers)]
        return sum(hits) / len(hits)

    targets, cues = [d.target for d in documents], [d.cue for d in documents]
    by_map = stated(guidance_mode="map")
    found |= {"map": share(by_map), "map_cue": share(by_map, cues), "sample": share(stated(guidance_mode="sample"))}
    kind = model.config.latent_type
    if kind == "gaussian":
        return found
    induced = model.induce_guidance(**inputs, labels=batch["labels"])
    segments = batch["segment_ids"]
    by_posterior = _gate(induced.posterior_probs, segments, kind)
    answers = stated(guidance=by_posterior)
    found |= {"posterior": share(answers), "hit": share(answers, targets)}
    if kind == "sentence":
        rolled = _gate(induced.posterior_probs.roll(1, 0), segments, kind)
        found["hit_shuffled"] = share(stated(guidance=rolled), targets)
        found["q_target"] = share(induced.posterior_probs.argmax(-1).tolist(), targets)
        found["p_cue"] = share(induced.prior_probs.argmax(-1).tolist(), cues)
    facts = range(len(documents[0].sentences))
    forced = [share(stated(guidance=(segments == k).float()), [k] * len(documents)) for k in facts]
    return found | {"forced": sum(forced) / len(forced)}


def _gate(probs: torch.Tensor, segments: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "bernoulli":
        return (probs > 0.5).float() * (segments >= 0)
    return (segments == probs.argmax(-1, keepdim=True)).float()


COLUMNS = (
    "posterior_nll",
    "prior_nll",
    "kl",
    "mutual_information",
    "shuffled_cost",
    "none_cost",
    "active_units",
    "map",
    "map_cue",
    "sample",
    "posterior",
    "hit",
    "hit_shuffled",
    "forced",
    "q_target",
    "p_cue",
)


def table() -> str:
    """Of every line of the results."""
    lines = [f"{'run':64} {'latent':9} {'code':12} seed steps    s " + " ".join(f"{c[:8]:>8}" for c in COLUMNS)]
    for text in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        cells = [f"{row[c]:8.3f}" if c in row else f"{'-':>8}" for c in COLUMNS]
        head = f"{row['name'][:64]:64} {row['latent']:9} {row['code']} {row['seed']:4} {row['steps']:5} {row['seconds']:4.0f} "
        lines.append(head + " ".join(cells))
    return "\n".join(lines)


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with fields set, `FIELD=VALUE`, the value as JSON."""
    told = dict(change.split("=", 1) for change in changes)
    return dataclasses.replace(recipe, **{name: json.loads(value) for name, value in told.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("table")
    run = verbs.add_parser("run")
    run.add_argument("names", nargs="+", choices=sorted(RECIPES))
    run.add_argument("--seeds", nargs="+", type=int, default=[0])
    run.add_argument("--steps", type=int, default=900)
    run.add_argument("--rate", type=float, default=2e-3)
    run.add_argument("--latent", default="sentence")
    run.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    run.add_argument("--without", nargs="*", default=[], choices=["separate", "matching", "secant"])
    options = parser.parse_args()
    if options.verb == "run":
        torch.set_num_threads(1)
        words, code = Words(), fingerprint()
        for name in options.names:
            recipe = changed(RECIPES[name], options.set)
            for seed in options.seeds:
                label = " ".join([name, *(f"without {part}" for part in options.without), *options.set])
                print(f"{label}, {options.latent}, seed {seed}", flush=True)
                start, model = time.perf_counter(), tiny(words, options.latent, seed)
                for part in options.without:
                    without(model, part)
                train(model, words, recipe, options.steps, seed, options.rate)
                seconds = time.perf_counter() - start
                row = {
                    "name": label,
                    "latent": options.latent,
                    "seed": seed,
                    "steps": options.steps,
                    "seconds": seconds,
                }
                row |= {"code": code, "rate": options.rate, "recipe": dataclasses.asdict(recipe)} | measure(
                    model, words
                )
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    print(table())


if __name__ == "__main__":
    main()
