"""Random documents, and small models and tokenizers for them."""

from __future__ import annotations

import functools
import random
from typing import Any

from fascicle_sief.document import Document, Mention, Relation

WORDS = ["it", "was", "not", "good", "the", "film", "Xy", "q", "…", "日", "naïve", "B-52"]
RELATIONS = ("owns", "knows", "born in")
TYPES = ("PER", "ORG")


def random_document(seed: int, sentences: int | None = None) -> Document:
    """Any shape: entities in one sentence or many, nested and overlapping mentions, dead entities, pairs given or not."""
    rng = random.Random(seed)
    count = sentences if sentences is not None else rng.randint(1, 6)
    texts = [[rng.choice(WORDS) for _ in range(rng.randint(1, 7))] for _ in range(count)]
    entities = []
    for _ in range(rng.randint(0, 5)):
        mentions = []
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            k = rng.randrange(count)
            start = rng.randrange(len(texts[k]))
            end = rng.randint(start + 1, min(len(texts[k]), start + 3))
            mentions.append(Mention(k, start, end, rng.choice((*TYPES, "ODD"))))
        entities.append(mentions)
    n = len(entities)
    every = [(h, t) for h in range(n) for t in range(n) if h != t]
    pairs = rng.choice((None, rng.sample(every, len(every) // 2)))
    asked = every if pairs is None else pairs
    relations = [
        Relation(
            *pair,
            rng.choice(RELATIONS),
            evidence=rng.choice((None, tuple(sorted(rng.sample(range(count), rng.randint(1, count)))))),
        )
        for pair in rng.sample(asked, min(len(asked), rng.randint(0, 4)))
    ]
    return Document(f"random {seed}", texts, entities, relations, pairs)


@functools.cache
def tokenizer() -> Any:
    """That of the core's tiny encoder."""
    from fascicle.hf.model_options import Tiny
    from fascicle.hf.tiny import tiny_tokenizer

    return tiny_tokenizer(Tiny(max_length=256))


@functools.cache
def tiny_encoder() -> Any:
    """A random BERT."""
    from fascicle.hf.model_options import Tiny
    from fascicle.hf.tiny import build_tiny

    return build_tiny(Tiny(head="none", max_length=256), seed=1, num_labels=None)[0].eval()


@functools.cache
def relation_model(base: str, **config: Any) -> Any:
    """One of the bases on it, in eval mode."""
    import torch

    from fascicle_sief.modeling import RelationModel

    torch.manual_seed(2)
    sizes = {"hidden": 32, "emb": 64, "window": 250, "overlap": 16, **config}
    model = RelationModel.on(
        tiny_encoder(),
        base=base,
        relations=list(RELATIONS),
        entity_types=list(TYPES),
        **sizes,
    )
    return model.eval()
