"""`fascicle faithsum summarize`. Light until the arguments are known to be good."""

from __future__ import annotations

import argparse
import functools
import json
import operator
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .errors import GuidanceError

__all__ = ["summarize_command"]


def summarize_command(argv: Sequence[str]) -> int:
    """Summarise a file of documents with a guided model; the exit status.

    Raises:
        GuidanceError: a folder, file or setting that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="fascicle faithsum summarize", description="Guided summaries of documents.")
    parser.add_argument("model", type=Path, help="folder of a guided model with its tokenizer")
    parser.add_argument("--in", dest="source", type=Path, required=True, help="one per line, or .jsonl with `document`")
    parser.add_argument("--out", type=Path, help=".jsonl to write; without it the summaries are printed")
    parser.add_argument("--guidance-mode", choices=("map", "mean", "sample", "topk", "none"))
    parser.add_argument("--guidance-k", type=int, help="places that topk takes")
    parser.add_argument("--keywords", help="separated by commas: words that guide every document")
    parser.add_argument("--sentences", help="separated by commas: numbers from 0 that guide every document")
    parser.add_argument("--belief", default="replace", choices=("replace", "max", "mix"))
    parser.add_argument("--weight", type=float, default=0.5, help="of your guidance, for --belief mix")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--rerank", metavar="METRIC", help="keeps the best of the samples")
    parser.add_argument("--threshold", type=float, help="a score under it is flagged")
    parser.add_argument("--below", default="flag", choices=("flag", "abstain", "extract"))
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="write a page: the first summaries and what guided them")
    parser.add_argument("--page-rows", type=int, default=5, help="summaries on the page")
    options = parser.parse_args(list(argv))
    if not (options.model / "config.json").is_file():
        raise GuidanceError(f"model: {options.model} has no config.json; expected the folder of a guided model")
    if not options.source.is_file():
        raise GuidanceError(f"--in: {options.source} is no file; expected documents, one per line, or .jsonl")
    if options.threshold is not None and options.rerank is None:
        raise GuidanceError("--threshold: got one without --rerank; name the metric it is about")
    if options.page_rows < 1:
        raise GuidanceError(f"--page-rows: got {options.page_rows}, expected at least 1")
    numbers = _numbers(options.sentences)
    words = None if options.keywords is None else [word.strip() for word in options.keywords.split(",") if word.strip()]
    if words == []:
        raise GuidanceError("--keywords: got none, expected words separated by commas")
    from .commands import read_texts

    documents = read_texts(options.source, ("document", "source"))
    if options.rerank:
        from .metrics import metric

        metric(options.rerank)
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from fascicle.results import atomic_write_text

    from . import modeling  # noqa: F401  registers the guided models
    from .guidance import summarize

    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model, local_files_only=True, use_safetensors=True).eval()
    if not hasattr(model, "induce_guidance"):
        raise GuidanceError(f"model: {options.model} holds {type(model).__name__}, expected a guided model")
    summaries = summarize(
        model,
        tokenizer,
        documents,
        guidance_mode=options.guidance_mode,
        guidance_k=options.guidance_k,
        keywords=words,
        sentences=numbers,
        belief=options.belief,
        weight=options.weight,
        samples=options.samples,
        rerank=options.rerank,
        threshold=options.threshold,
        below=options.below,
        max_new_tokens=options.max_new_tokens,
        num_beams=options.beams,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    if options.out is None:
        sys.stdout.write("".join(f"{summary.text or ''}\n" for summary in summaries))
    else:
        rows = [{**asdict(summary), "summary": summary.text} for summary in summaries]
        atomic_write_text(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if options.page is not None:
        from .guidance import Guidance
        from .inspection import explain
        from .inspection_page import page

        asked = [
            signal for signal in (numbers and Guidance.sentences(numbers), words and Guidance.keywords(words)) if signal
        ]
        shown = [
            explain(
                model,
                tokenizer,
                document,
                summary.candidates[summary.chosen].text,
                guidance=functools.reduce(operator.or_, asked) if asked else None,
                belief=options.belief,
                weight=options.weight,
                move=model.config.latent_type == "sentence",
            )
            for document, summary in zip(documents[: options.page_rows], summaries, strict=False)
            if summary.candidates[summary.chosen].text.strip()
        ]
        atomic_write_text(options.page, page(shown))
    return 0


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise GuidanceError(
            f"--sentences: got {text!r}, expected numbers from 0, separated by commas, as in 0,3"
        ) from None
