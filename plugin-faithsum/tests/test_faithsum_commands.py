"""`fascicle faithsum`: what the commands print and write, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fascicle_faithsum.commands import COMMANDS, main, read_texts
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.metrics import METRICS


def texts(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_scores_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = texts(tmp_path, "a.txt", ["The lamp was sold in 1999.", "It was red."])
    rows = [json.dumps({"summary": "The lamp was sold in 1998."}), json.dumps({"summary": "It was red."})]
    summaries = texts(tmp_path, "b.jsonl", rows)
    out = tmp_path / "scores.json"
    assert main(["score", str(sources), str(summaries), "--metrics", "numbers,coverage", "--json", str(out)]) == 0
    told = capsys.readouterr().out
    assert "numbers                  0.5000" in told
    written = json.loads(out.read_text(encoding="utf-8"))
    assert [row["numbers"] for row in written] == [0.0, 1.0]
    assert written[1]["coverage"] == 1.0


def test_documents_may_be_lists_of_sentences(tmp_path: Path) -> None:
    path = texts(tmp_path, "a.jsonl", [json.dumps({"source": ["One.", "Two."]}), "", json.dumps({"source": "Three."})])
    assert read_texts(path, ("document", "source")) == ["One. Two.", "Three."]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": 1}'], r"a.jsonl:1: expected a text in document or source, got NoneType"),
        (['{"document": 3}'], r"a.jsonl:1: expected a text in document or source, got int"),
        (["{"], r"a.jsonl:1: no JSON"),
        ([], r"is empty, expected a text per line"),
    ],
)
def test_malformed_rows_are_named(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=message):
        read_texts(texts(tmp_path, "a.jsonl", lines), ("document", "source"))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    one, two = texts(tmp_path, "a.txt", ["One."]), texts(tmp_path, "b.txt", ["One.", "Two."])
    with pytest.raises(MetricError, match=r"1 documents, .* 2 summaries"):
        main(["score", str(one), str(two)])
    with pytest.raises(MetricError, match="cannot be read"):
        main(["score", str(tmp_path / "none.txt"), str(two)])
    with pytest.raises(MetricError, match="unknown_metric"):
        main(["score", str(one), str(one), "--metrics", "unknown_metric"])


def test_every_metric_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METRICS)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_tells_its_arguments(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"fascicle faithsum {command}" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fascicle_faithsum.commands import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
