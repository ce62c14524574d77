from __future__ import annotations

import warnings

import pytest
import torch

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.chat_templates import prompt_of
from recbole_cdsr.llm.generator import ChatRequest, TextGenerator
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache
from recbole_cdsr.llm.transformers_generator import TransformersGenerator

from .tiny_model import save_tiny_model


def chats(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "system", "content": "be brief"}, {"role": "user", "content": text}] for text in texts]


DIFFERENT_LENGTHS = chats("tea", "a much longer question about the history of porcelain", "Tee für zwei ☕", "?")


@pytest.fixture(scope="module")
def generator(tiny_model) -> TransformersGenerator:
    return TransformersGenerator(str(tiny_model), max_new_tokens=12)


def test_a_batch_answers_like_one_chat_at_a_time(generator):
    together = generator.generate(DIFFERENT_LENGTHS)
    assert together == [generator.generate([chat])[0] for chat in DIFFERENT_LENGTHS]
    assert [answer.prompt_tokens for answer in together] == [generator.count_tokens(chat) for chat in DIFFERENT_LENGTHS]
    assert len({answer.text for answer in together}) == 4


def test_answers_are_greedy_and_those_of_the_model_itself(generator):
    """Token by token by hand: the likeliest one after the prompt and what was written so far."""
    model, tokenizer = generator._model(), generator._tokenizer()
    ids = tokenizer(prompt_of(tokenizer, DIFFERENT_LENGTHS[1]), add_special_tokens=False)["input_ids"]
    written: list[int] = []
    with torch.no_grad():
        while len(written) < 12 and tokenizer.eos_token_id not in written:
            written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    (answer,) = generator.generate([DIFFERENT_LENGTHS[1]])
    assert answer.text == tokenizer.decode(written, skip_special_tokens=True).strip()
    assert answer.completion_tokens == len(written)


def test_new_tokens_are_bounded_and_a_cut_is_told(generator):
    for answer in generator.generate(DIFFERENT_LENGTHS):
        assert answer.completion_tokens <= 12
        assert answer.truncated == (answer.completion_tokens == 12)


def test_an_answer_ends_where_the_model_ends_it(tiny_model, generator):
    ending = TransformersGenerator(str(tiny_model), max_new_tokens=12)
    model = ending._model()
    third = generator._continued([generator._ids(DIFFERENT_LENGTHS[0])])[0, 2]
    model.generation_config.eos_token_id = [int(third)]
    (answer,) = ending.generate([DIFFERENT_LENGTHS[0]])
    assert answer.finish_reason == "stop"
    assert answer.completion_tokens <= 2


def test_a_prompt_longer_than_the_model_reads_is_told_and_the_others_are_answered(generator):
    long, short = generator.generate(chats("tea " * 200, "tea"))
    assert long.text is None
    assert "more than the 512 that tiny reads" in long.error
    assert short.text is not None


def test_a_tokenizer_without_a_template_gets_a_plain_prompt(tmp_path):
    plain = TransformersGenerator(str(save_tiny_model(tmp_path / "plain", None)), max_new_tokens=4)
    tokenizer = plain._tokenizer()
    expected = "<s>Instructions: be brief\n\nUser: tea\n\nAssistant:"
    assert prompt_of(tokenizer, chats("tea")[0]) == expected
    assert plain.provenance()["template"].startswith("plain text")
    assert plain.generate(chats("tea"))[0].answered


def test_a_template_without_a_system_role_gets_it_in_the_first_message(generator):
    tokenizer = generator._tokenizer()
    before = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + (before or "")
    )
    try:
        assert prompt_of(tokenizer, chats("tea")[0]) == "<|user|>be brief\n\ntea<|end|><|assistant|>"
    finally:
        tokenizer.chat_template = before


def test_draws_are_the_same_each_time_and_leave_the_random_state_alone(tiny_model):
    drawing = TransformersGenerator(
        str(tiny_model), max_new_tokens=12, temperature=1.5, extra_parameters={"top_p": 0.9}
    )
    state = torch.get_rng_state()
    first = drawing.generate(DIFFERENT_LENGTHS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert drawing.generate(DIFFERENT_LENGTHS) == first


def test_parameters_say_all_that_changes_an_answer(tiny_model, tmp_path, generator):
    assert isinstance(generator, TextGenerator)
    other = TransformersGenerator(str(save_tiny_model(tmp_path / "tiny", seed=1)), max_new_tokens=12)
    assert other.model == generator.model == "tiny"
    assert other.parameters != generator.parameters
    assert generator.provenance()["llm"] == "tiny"
    half = TransformersGenerator(str(tiny_model), dtype="bfloat16", max_new_tokens=12)
    assert half.parameters["dtype"] == "bfloat16"
    assert half._model().dtype == torch.bfloat16
    assert all(answer.answered for answer in half.generate(DIFFERENT_LENGTHS))


def test_a_run_batches_by_length_and_keeps_the_answers(tiny_model, tmp_path):
    generator = TransformersGenerator(str(tiny_model), max_new_tokens=4, batch_size=4)
    requests = [ChatRequest(chat, "p-1") for chat in chats(*("x" * n for n in (1, 90, 2, 80, 3, 70, 4, 60)))]
    shapes = []
    handle = generator._model().register_forward_pre_hook(
        lambda module, arguments, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        outcome = run_requests(generator, requests, cache)
        assert outcome.report.complete
        assert outcome.report.calls == 2
        assert [answer.text for answer in outcome.answers] == [
            generator.generate([request.chat])[0].text for request in requests
        ]
        assert run_requests(generator, requests, cache).report.asked == 0
    handle.remove()
    prompts = [shape for shape in shapes[:8] if shape[1] > 1]
    assert prompts[0][1] >= 90 + 20
    assert prompts[1][1] < 60  # the short ones are not padded to the long ones


def test_a_device_map_changes_nothing_but_the_place(tiny_model, generator):
    pytest.importorskip("accelerate")
    mapped = TransformersGenerator(str(tiny_model), max_new_tokens=12, device_map="cpu")
    assert mapped.generate(DIFFERENT_LENGTHS) == generator.generate(DIFFERENT_LENGTHS)
    assert mapped.parameters == generator.parameters
    nonsense = TransformersGenerator(str(tiny_model), device_map="nowhere")
    with pytest.raises(FeatureError, match=r"llm_model: .* cannot be loaded"):
        nonsense.generate(chats("tea"))


def test_generating_says_nothing_on_the_screen(tiny_model, capfd, recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TransformersGenerator(str(tiny_model), max_new_tokens=2).generate(DIFFERENT_LENGTHS)
    assert capfd.readouterr() == ("", "")


class TestRefused:
    def test_a_model_that_is_nowhere(self):
        with pytest.raises(FeatureError, match="llm_model: there is no folder"):
            TransformersGenerator("./nowhere")
        with pytest.raises(FeatureError, match="llm_model: some/model was not found"):
            TransformersGenerator("some/model")

    def test_a_folder_without_a_model(self, tmp_path):
        with pytest.raises(FeatureError, match="holds no model"):
            TransformersGenerator(str(tmp_path))

    def test_damaged_weights(self, tmp_path):
        folder = save_tiny_model(tmp_path / "tiny")
        (folder / "model.safetensors").write_bytes(b"\x00" * 100)
        with pytest.raises(FeatureError, match="cannot be loaded as a model") as raised:
            TransformersGenerator(str(folder)).generate(chats("tea"))
        assert "\n" not in str(raised.value)

    def test_a_parameter_the_model_does_not_take(self, tiny_model):
        odd = TransformersGenerator(str(tiny_model), max_new_tokens=2, extra_parameters={"no_such_thing": 3})
        with pytest.raises(FeatureError, match=r"no_such_thing.*llm_extra_parameters"):
            odd.generate(chats("tea"))
