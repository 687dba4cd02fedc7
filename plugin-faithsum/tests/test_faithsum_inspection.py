from __future__ import annotations

import dataclasses
import io
import json
import re
from html import unescape

import pytest
import torch
from faithsum_texts import DOCUMENTS, texts_model
from rich.console import Console

from fascicle.blocks import check_section
from fascicle_faithsum.attention import record_guidance_attention
from fascicle_faithsum.commands_summarize import summarize_command
from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.guidance import Guidance, guide
from fascicle_faithsum.inspection import explain, section, show
from fascicle_faithsum.inspection_page import page
from fascicle_faithsum.segments import encode


def test_probabilities_sum_to_one_and_attention_to_less():
    model, tokenizer = texts_model()
    told = explain(model, tokenizer, DOCUMENTS[0], "The film was long.", move=True)
    assert sum(told.prior) == pytest.approx(1.0, abs=1e-5)
    assert sum(told.posterior) == pytest.approx(1.0, abs=1e-5)
    assert len(told.attention) == len(told.summary_tokens)
    assert all(0 < sum(row) < 1 for row in told.attention)
    labels = tokenizer("The film was long.", return_tensors="pt").input_ids
    for number, nll in zip(told.sentences, told.sentence_nll, strict=True):
        own = model(**guide(model, tokenizer, DOCUMENTS[:1], sentences=[number]), labels=labels)
        assert nll == pytest.approx(own.nll.item(), rel=1e-5)
    assert "".join(told.summary_tokens) == "The film was long."
    check_section(section(told))
    out = io.StringIO()
    show(told, Console(file=out))
    assert "The film was long." in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_the_page_escapes_and_asks_nobody():
    model, tokenizer = texts_model()
    html = page(explain(model, tokenizer, ["It was </script><b>bad</b>.", "We left."], "<i>bad</i>"))
    assert "<b>" not in html
    assert "<i>" not in html
    assert html.count("</script>") == 2
    assert "http" not in html


def test_several_documents_make_one_page():
    model, tokenizer = texts_model()
    told = [explain(model, tokenizer, document, "The film.") for document in DOCUMENTS]
    html = page(told)
    assert html.count("<article>") == 2
    assert "guided 2 summaries" in html
    assert page(told[0]) == page(told[:1])


@pytest.mark.parametrize("document", ["A  b & <c>. Next,  one!", ["It was </b> so.", "", "We  left."]])
def test_the_page_holds_every_word_of_the_document(document):
    model, tokenizer = texts_model()
    html = page(explain(model, tokenizer, document, "The film."))
    body = re.sub(r"<[^>]*>", "", html.split("<h3>Document</h3>")[1].split("<h3>")[0])
    wanted = document if isinstance(document, str) else " ".join(document)
    assert unescape(body).split() == wanted.split()


def test_the_users_guidance_is_what_is_explained():
    model, tokenizer = texts_model()
    wanted = Guidance.sentences([2]) | Guidance.keywords(["film"], weight=0.5)
    told = explain(model, tokenizer, DOCUMENTS[0], "The film was long.", guidance=wanted)
    assert told.given
    assert told.gate == (0.0, 0.5, 1.0)
    own = explain(model, tokenizer, DOCUMENTS[0], "The film was long.")
    assert not own.given
    assert own.gate == tuple(float(p == max(own.prior)) for p in own.prior)
    assert own.prior == told.prior
    assert all(
        sum(w for w, s in zip(row, told.document.segments, strict=True) if s == 0) == 0 for row in told.attention
    )
    assert "guided by you" in page(told)
    assert "guided by the model" in page(own)
    out = io.StringIO()
    show(told, Console(file=out))
    assert [line[0] for line in out.getvalue().splitlines()[1:]] == [" ", ">", ">"]
    mixed = explain(
        model, tokenizer, DOCUMENTS[0], "The film.", guidance=Guidance.sentences([2]), belief="mix", weight=0.25
    )
    assert mixed.gate == pytest.approx(
        [0.75 * p + (0.25 if k == 2 else 0) for k, p in enumerate(mixed.prior)], abs=1e-5
    )


def test_the_attention_to_the_source_is_that_of_the_eager_base():
    model, tokenizer = texts_model()
    told = explain(model, tokenizer, DOCUMENTS[0], "The film was long.")
    assert model.config._attn_implementation == "sdpa"
    inputs = encode(tokenizer, DOCUMENTS[:1], 64).inputs
    labels = tokenizer("The film was long.", return_tensors="pt").input_ids
    model.set_attn_implementation("eager")
    with torch.no_grad():
        seen = model(**inputs, labels=labels, guidance_mode="map", output_attentions=True).cross_attentions
    expected = torch.stack(seen).mean((0, 2))[0]
    found = torch.tensor(told.source_attention)
    places = [place for place, token in enumerate(labels[0].tolist()) if token not in tokenizer.all_special_ids]
    torch.testing.assert_close(found, expected[places])
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


def test_a_span_is_the_shortest_run_with_the_share():
    model, tokenizer = texts_model()
    told = explain(model, tokenizer, DOCUMENTS[0], "The film was long.")
    segments = told.document.segments
    for token in range(len(told.summary_tokens)):
        row = [w if s >= 0 else 0.0 for w, s in zip(told.source_attention[token], segments, strict=True)]
        for share in (0.2, 0.5, 1.0):
            first, last = told.span(token, share=share)
            assert sum(row[first : last + 1]) >= share * sum(row) - 1e-6
            width = last - first + 1
            shorter = [sum(row[k : k + width - 1]) for k in range(len(row))]
            assert max(shorter) < share * sum(row)
        assert told.span_text(token) in told.document.text
    with pytest.raises(GuidanceError, match="share: got 0"):
        told.span(0, share=0)
    shut = dataclasses.replace(told, attention=((0.0,) * len(segments),) * len(told.attention))
    assert shut.span(0, of="guidance") is None
    assert shut.span_text(0, of="guidance") == ""


def test_the_attention_to_the_source_is_recorded_where_it_is_asked_for_alone():
    model, tokenizer = texts_model()
    inputs = encode(tokenizer, DOCUMENTS[:1], 64).inputs
    with record_guidance_attention(model) as record, torch.no_grad():
        model(**inputs, labels=inputs["input_ids"])
    with pytest.raises(ValueError, match="source attention: nothing was recorded"):
        record.source_weights()


def test_a_gaussian_points_at_nothing():
    model, tokenizer = texts_model("gaussian")
    with pytest.raises(GuidanceError, match="points at nothing"):
        explain(model, tokenizer, DOCUMENTS[0], "The film.")


def test_the_command_writes_summaries_and_a_page(tmp_path):
    model, tokenizer = texts_model()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "in.txt").write_text("\n".join(DOCUMENTS), encoding="utf-8")
    asked = [str(tmp_path / "model"), "--in", str(tmp_path / "in.txt"), "--out", str(tmp_path / "out.jsonl")]
    more = ["--max-new-tokens", "4", "--beams", "1", "--sentences", "0"]
    assert summarize_command([*asked, *more]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["guidance"][0]["text"] for row in rows] == ["It was not good.", DOCUMENTS[1]]
    assert (
        summarize_command(
            [*asked, "--beams", "1", "--max-new-tokens", "4", "--samples", "2", "--page", str(tmp_path / "page.html")]
        )
        == 0
    )
    assert "We left early." in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert summarize_command([*asked, *more, "--keywords", "film", "--page", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("guided by you") == 2
    assert summarize_command([*asked, *more, "--page", str(tmp_path / "page.html"), "--page-rows", "1"]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<article>") == 1
    with pytest.raises(GuidanceError, match="--page-rows: got 0"):
        summarize_command([*asked, "--page-rows", "0"])
    with pytest.raises(GuidanceError, match="no config"):
        summarize_command([str(tmp_path), "--in", str(tmp_path / "in.txt")])
