from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.openai_endpoint import OpenAIEndpoint, retry_after
from recbole_cdsr.llm.openai_generator import OpenAIGenerator


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:05 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_how_long_a_service_asks_to_wait(headers, seconds):
    assert retry_after(headers, now=10.0) == seconds


def test_a_service_of_ones_own_needs_no_key(service, monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    generator = OpenAIGenerator("m", base_url=service.url, api_key_env="TEST_KEY")
    assert generator.generate([[{"role": "user", "content": "tea"}]])[0].text == "about tea"


def test_openais_own_service_needs_one(monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(FeatureError, match="environment variable TEST_KEY holds no key"):
        OpenAIEndpoint(None, "TEST_KEY")
    assert OpenAIEndpoint(None, "TEST_KEY", asks=False).address == "https://api.openai.com/v1"


@pytest.mark.parametrize("key", ["sk-with\nnewline-inside", "sk-ünïcode"])
def test_what_cannot_be_a_key_is_refused_unseen(monkeypatch, key):
    monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(FeatureError, match="not a key") as raised:
        OpenAIEndpoint("http://localhost:1/v1", "TEST_KEY")
    assert key not in str(raised.value)


def test_the_address_of_a_run_holds_no_password():
    endpoint = OpenAIEndpoint("http://somebody:secret@localhost:1234/v1", "TEST_KEY")
    assert endpoint.address == "http://localhost:1234/v1"


def test_provenance_says_who_wrote_and_holds_no_key(service, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    generator = OpenAIGenerator("m", base_url=service.url, api_key_env="TEST_KEY")
    provenance = generator.provenance()
    assert (provenance["llm"], provenance["backend"], provenance["address"]) == ("m", "openai", service.url)
    assert "sk-secret" not in repr(provenance) + repr(vars(generator)["parameters"])


def test_parameters_can_be_added_and_left_out(service):
    generator = OpenAIGenerator(
        "m",
        base_url=service.url,
        max_new_tokens=9,
        extra_parameters={"max_tokens": None, "max_completion_tokens": 9, "temperature": None, "seed": 5},
    )
    generator.generate([[{"role": "user", "content": "tea"}]])
    sent = service.requests[0].body
    assert {name: sent.get(name) for name in ("max_tokens", "temperature", "max_completion_tokens", "seed")} == {
        "max_tokens": None,
        "temperature": None,
        "max_completion_tokens": 9,
        "seed": 5,
    }
    assert generator.parameters == {"max_completion_tokens": 9, "seed": 5}


def test_requests_leave_no_line_each_in_the_log(service, caplog):
    with caplog.at_level(logging.INFO):
        OpenAIGenerator("m", base_url=service.url).generate([[{"role": "user", "content": "tea"}]])
    assert caplog.text == ""


def test_without_the_client_the_remedy_is_named(tmp_path):
    (tmp_path / "openai.py").write_text("raise ImportError('not installed')\n")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from recbole_cdsr.errors import FeatureError\n"
        "from recbole_cdsr.llm.openai_generator import OpenAIGenerator\n"
        "try: OpenAIGenerator('m', base_url='http://localhost:1/v1')\n"
        "except FeatureError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *filter(None, sys.path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "pip install 'recbole-cdsr[openai]'" in run.stdout, run.stderr
