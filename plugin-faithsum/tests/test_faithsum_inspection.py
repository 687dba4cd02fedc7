from __future__ import annotations

import io
import json

import pytest
from faithsum_texts import DOCUMENTS, texts_model
from rich.console import Console

from fascicle.blocks import check_section
from fascicle_faithsum.commands_summarize import summarize_command
from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.guidance import guide
from fascicle_faithsum.inspection import explain, section, show
from fascicle_faithsum.inspection_page import page


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
    with pytest.raises(GuidanceError, match="own guidance"):
        summarize_command([*asked, "--sentences", "0", "--page", str(tmp_path / "page.html")])
    with pytest.raises(GuidanceError, match="no config"):
        summarize_command([str(tmp_path), "--in", str(tmp_path / "in.txt")])
