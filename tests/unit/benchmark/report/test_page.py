"""The HTML page: complete in itself, in order, reachable by keyboard, and safe whatever its files say."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.report.figures.heat_map import DEEPEST
from recbole_cdsr.benchmark.report.figures.palette import N_COLOURS
from recbole_cdsr.benchmark.report.page import page

HOSTILE = "<script>alert('x')</script>\"&amp;"
CSS = resources.files("recbole_cdsr.benchmark.report").joinpath("page_files/page.css").read_text(encoding="utf-8")


class Document(HTMLParser):
    """Tags with their attributes in order, and all text outside of `style`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self._in_style = False
        self.feed(html)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        if not self._in_style:
            self.parts.append(data)


@pytest.fixture
def document(analysis: Analysis) -> Document:
    return Document(page(analysis, "bench"))


def test_it_needs_nothing_beside_itself(document, analysis):
    assert not [tag for tag, _ in document.tags if tag in ("script", "link", "img", "iframe", "object")]
    references = [attributes.get(key) for _, attributes in document.tags for key in ("src", "href", "xlink:href")]
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert {each for each in references if each} <= {f"#{each}" for each in ids}
    assert len(ids) == len(set(ids))
    assert not re.search(r"url\(|@import|@font-face", CSS)
    assert "http://" not in page(analysis, "bench")


def test_headings_are_in_order_and_tables_say_what_they_are(document):
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in document.tags]
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attributes for tag, attributes in document.tags if tag == "th")
    assert document.tags[0] == ("html", {"lang": "en"})


def test_every_number_of_a_figure_is_reachable_by_keyboard_and_as_text(document):
    marks = [
        attributes for tag, attributes in document.tags if tag == "g" and "mark" in (attributes.get("class") or "")
    ]
    assert all(mark["tabindex"] == "0" and mark["role"] == "img" for mark in marks)
    labels = [mark["aria-label"] for mark in marks]
    assert any(label.startswith("LLM4CDSR: 0.5159 ± 0.2131, 95 % interval 0.") for label in labels)
    assert "LLM4CDSR: 0.6111 ± 0.3469*" in labels  # books, with its star
    assert "LLM4CDSR, seed 2: best 0.5000 at epoch 1 of 3" in labels
    assert "LLM4CDSR: 0.5159 after 12.0 s of training" in labels
    figures = [tag for tag, _ in document.tags if tag == "figure"]
    details = [tag for tag, attributes in document.tags if tag == "summary"]
    assert len(details) >= len(figures) > 5
    assert "0: 0.1000, 1: 0.5000, 2: 0.4000" in document.text  # the learning curve as text


def test_what_it_says_of_the_worked_example(document):
    assert "Highest NDCG@10 on test: SASRec, 1.0000 ± 0.0000." in document.text
    assert "Reference, the best baseline on validation: BPR." in document.text
    assert "LLM4CDSR is significantly better in book." in document.text
    assert "Not fit for a claim: SASRec+llm" in document.text
    assert "LLM-free features: no LLM took part." in document.text
    assert "11 of 12 finished" in document.text
    assert "3: missing (not started yet)" in document.text
    assert "run --model=LLM4CDSR" in document.text
    assert "torch 2.13.0" in document.text


def test_the_overlap_dilemma_is_a_curve_per_model(dilemma):
    document = Document(page(Analysis.of_folder(dilemma), "bench"))
    labels = [attributes["aria-label"] for tag, attributes in document.tags if tag == "g" and "tabindex" in attributes]
    assert "SASRecBCE: 25%: 0.3750, 50%: 0.5000, 100%: 1.0000" in labels
    assert "BPR (ratio does not apply): 25%: 0.3750, 50%: 0.5000, 100%: 1.0000" in labels
    assert "The ratio does not apply to BPR" in document.text
    assert "Datasets: shop0.25, shop0.5, shop1. All are judged on the same rows" in document.text


def test_the_heat_map_leaves_out_groups_without_rows(document):
    labels = [attributes.get("aria-label") or "" for tag, attributes in document.tags if tag == "g"]
    assert "LLM4CDSR: best of 0 of 1 groups; users overlapped 0.6111 ± 0.3469" in labels
    assert "users overlapped: 0.6111 ± 0.3469, 61% of the best; n = 4" in document.text
    assert not any("single-domain" in label for label in labels)


def test_hostile_text_in_cards_labels_and_reasons_stays_text(tmp_path, cell):
    card = {"name": HOSTILE, "synthetic": True, "description": HOSTILE, "filters": [HOSTILE]}
    card |= {"source": {"title": HOSTILE, "files": [{"name": HOSTILE, "sha256": HOSTILE}]}}
    card |= {"converter": {"name": HOSTILE, "options": {HOSTILE: HOSTILE}}, "domains": [{"name": HOSTILE}]}
    features = {"made_by": HOSTILE, "llm": HOSTILE, "items": {HOSTILE: HOSTILE}}
    ranks = {"book": [1, 3]}
    path = cell(tmp_path, "LeCDSR", 1, ranks, card=card, features=features, command=HOSTILE, synthetic=True)
    text = (
        (path / "cell.json").read_text(encoding="utf-8").replace('"label": "LeCDSR"', '"label": "<script>l</script>"')
    )
    (path / "cell.json").write_text(text, encoding="utf-8")
    cell(tmp_path, "BPR", 1, status="failed", reason=HOSTILE)
    html = page(Analysis.of_folder(tmp_path), HOSTILE)
    document = Document(html)
    assert "script" not in {tag for tag, _ in document.tags}
    assert document.text.count("<script>alert('x')</script>\"&amp;") >= 12
    assert any(attributes.get("aria-label", "").startswith("<script>l</script>: ") for _, attributes in document.tags)


@pytest.mark.parametrize(
    ("result", "headline"),
    [
        ({"features": {"made_by": "items: MiniLM; profiles: by qwen", "llm": "qwen"}}, "Text features: LLM: qwen."),
        ({"pseudo_items": {"made_by": "LLM q", "generator": {"llm": "q"}}}, "Text features: LLM: q."),
        ({"features": {"made_by": "items: given by the user (item_features_file)", "llm": None}}, "not recorded."),
        ({"pseudo_items": {"made_by": "retrieval (no LLM)"}}, "LLM-free features: no LLM took part."),
    ],
)
def test_who_made_the_features_stands_at_the_top(tmp_path, cell, result, headline):
    cell(tmp_path, "LLMCDSR", 1, {"book": [1]}, **result)
    text = Document(page(Analysis.of_folder(tmp_path), "bench")).text
    assert headline in text
    assert ("no LLM took part" in text) == headline.startswith("LLM-free")


def test_synthetic_data_are_flagged_at_the_top_and_where_they_stand(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1]}, dataset="made", synthetic=True)
    cell(tmp_path, "BPR", 1, {"book": [1]}, dataset="shop")
    text = Document(page(Analysis.of_folder(tmp_path), "bench")).text
    assert "Synthetic data: made." in text
    assert "those on shop are not concerned" in text
    assert "Synthetic data. made was made by a program." in text
    assert "Synthetic data. shop" not in text


def test_a_grid_without_a_finished_cell_is_a_page_too(tmp_path, cell):
    cell(tmp_path, "BPR", 1, status="failed", reason="training loss is nan")
    text = Document(page(Analysis.of_folder(tmp_path), "bench")).text
    assert "1: failed (training loss is nan)" in text
    assert "No cell has finished" in text


def test_older_results_without_validation_scores_are_named(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1]}, valid_scores=None, budget=None)
    assert "No validation scores are recorded for BPR." in Document(page(Analysis.of_folder(tmp_path), "bench")).text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(scheme):
    light, dark = re.findall(r":root \{([^}]*)\}", CSS)[:2]
    named = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else light + dark))
    paper = _rgb(named["paper"])
    for name in ("ink", "soft", "accent"):
        assert _contrast(_rgb(named[name]), paper) >= 4.5, name
    assert _contrast(_rgb(named["warn-ink"]), _rgb(named["warn-paper"])) >= 4.5
    assert _contrast(_rgb(named["ink"]), _rgb(named["panel"])) >= 4.5
    for place in range(N_COLOURS):
        assert _contrast(_rgb(named[f"c{place}"]), paper) >= 3, place
    tint = [DEEPEST * a + (1 - DEEPEST) * b for a, b in zip(_rgb(named["accent"]), paper, strict=True)]
    assert _contrast(_rgb(named["ink"]), tint) >= 4.5


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(analysis, tmp_path, width):
    (tmp_path / "report.html").write_text(page(analysis, "bench"), encoding="utf-8")
    measure = (
        "let e = this.contentDocument.documentElement; document.title = 'beyond: ' + (e.scrollWidth - e.clientWidth)"
    )
    frame = f'<title></title><iframe src="report.html" width="{width}" height="800" onload="{measure}"></iframe>'
    assert "<title>beyond: 0</title>" in _in_chromium(tmp_path / "frame.html", frame)


def _in_chromium(path: Path, html: str) -> str:
    path.write_text(html, encoding="utf-8")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--dump-dom",
    ]
    command += [f"--user-data-dir={path.parent / 'profile'}", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _rgb(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def _contrast(first: list[float], second: list[float]) -> float:
    """WCAG 2: of relative luminances."""

    def luminance(rgb: list[float]) -> float:
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)
