"""A browser opens the page: nothing sticks out on a phone, and nothing is refused or asked for."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_runs import make_result

from fascicle.objects import Block, Section
from fascicle.report import build
from fascicle.results import write_result

pytestmark = pytest.mark.slow

PROBE = """<!DOCTYPE html><body style="margin:0"><iframe id="page" style="border:0;width:{width}px;height:900px"
srcdoc="{page}"></iframe><pre id="answer"></pre><script>
page.onload = () => {{
  const d = page.contentDocument, over = [];
  for (const e of d.querySelectorAll("details")) e.open = true;
  for (const e of d.querySelectorAll("main *, header *")) {{
    if (e.closest(".scroll, pre, svg") && !e.matches(".scroll, pre, svg.figure:not(.wide)")) continue;
    if (e.closest("figure") && e.closest("figure").querySelector(".wide")) continue;
    const box = e.getBoundingClientRect();
    if (box.right > {width} + 0.5) over.push(e.tagName + "." + e.getAttribute("class"));
  }}
  const figure = d.querySelector("svg.figure"), text = figure.querySelector("text");
  answer.textContent = JSON.stringify({{
    width: d.documentElement.scrollWidth, over,
    figure: figure.getBoundingClientRect().width,
    font: parseFloat(getComputedStyle(text).fontSize) * figure.getBoundingClientRect().width / figure.viewBox.baseVal.width,
    scripts: d.scripts.length, requests: page.contentWindow.performance.getEntriesByType("resource").length,
  }});
}};</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium on the path (apt-get install chromium)")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("runs")
    wide = {"rows": ["r"] * 3, "columns": [f"column {i}" for i in range(60)], "values": [[0.5] * 60] * 3}
    blocks = [
        Block(kind="text", data={"text": "A paragraph with one " + "very" * 60 + "long word."}),
        Block(kind="heatmap", title="Wide", data=wide),
        Block(kind="bars", data={"labels": ["model.layers.10.self_attn.query"] * 5, "series": {"s": [1, 2, 3, 4, 5]}}),
        Block(kind="table", data={"columns": [f"c{i}" for i in range(30)], "rows": [["cell"] * 30]}),
        Block(kind="spans", data={"spans": [{"text": "word " * 3, "weight": 0.5}] * 20}),
    ]
    for option in ("hf_lora", "a_method_with_a_rather_long_name_that_has_to_wrap_somewhere"):
        for seed in (1, 2, 3):
            result = make_result(
                option,
                seed,
                metrics={"accuracy": 0.5 + seed / 10 + len(option) / 1000},
                history=[{"step": float(s), "loss": 1 / s, "eval_loss": 2 / s} for s in range(1, 30)],
                training={"trainable_parameters": 1.0e7, "train_seconds": 12.5},
                sections=[Section(title="Inside", plugin="toy", blocks=blocks)],
                provenance={"model": {"fingerprint": "ab" * 32}},
            )
            write_result(root / f"{option}-{seed}", result)
    return build([root], baseline="training=hf_lora").html()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_window_and_nothing_is_requested(
    chromium: str, page: str, width: int, tmp_path: Path
) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width, page=html.escape(page)), encoding="utf-8")
    flags = ["--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [chromium, *flags, "--virtual-time-budget=5000", "--dump-dom", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    found = re.search(r'<pre id="answer">(.+?)</pre>', dom)
    assert found, dom[-2000:]
    answer = json.loads(html.unescape(found[1]))
    assert answer["over"] == []
    assert answer["width"] <= width
    assert answer["figure"] <= width
    assert answer["font"] >= 9.5
    assert (answer["scripts"], answer["requests"]) == (0, 0)
