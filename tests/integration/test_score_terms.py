"""`tools/llm4cdsr_terms.py` on a run of its own."""

from __future__ import annotations

import re

import pytest


@pytest.fixture
def terms(monkeypatch, load_tool):
    module = load_tool("llm4cdsr_terms")

    def told(place, capsys):
        monkeypatch.setattr("sys.argv", ["llm4cdsr_terms.py", str(place)])
        code = module.main()
        return code, capsys.readouterr()

    return told


def ndcg(line: str) -> float:
    return float(re.search(r"overall ndcg@10 ([0-9.]+)", line)[1])


def test_both_terms_are_the_run_and_each_alone_is_something_else(tiny, run, small, item_features, terms, capsys):
    settings = small | {"item_features_file": str(item_features(tiny)), "epochs": 4, "learning_rate": 0.01}
    result = run("LLM4CDSR", tiny, **settings)
    capsys.readouterr()
    code, said = terms(result["run_dir"], capsys)
    assert code == 0
    lines = [line for line in said.out.splitlines() if "overall" in line]
    assert [line.split()[:1] for line in lines] == [["validation"]] * 3 + [["test"]] * 3
    both, global_term, local_term = (ndcg(line) for line in lines[3:])
    assert both == pytest.approx(result["test"]["overall"]["ndcg@10"], abs=6e-5)
    assert len({both, global_term, local_term}) > 1

    alone = run("LLM4CDSR", tiny, **settings, use_global=False)
    capsys.readouterr()
    code, said = terms(alone["run_dir"], capsys)
    assert code == 2
    assert "use_global" in said.err


def test_a_run_of_another_model_is_named(tiny, run, terms, capsys):
    result = run("BPR", tiny, epochs=1)
    capsys.readouterr()
    code, said = terms(result["run_dir"], capsys)
    assert code == 2
    assert "is a run of BPR" in said.err
