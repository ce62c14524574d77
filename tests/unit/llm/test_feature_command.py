"""`recbole-cdsr features`, as a user calls it: in this process, and as a process that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recbole_cdsr.cli import main

from .feature_dataset import DOMAINS, N_USERS, TARGETS, behave, llm
from .service import Received, Reply, Service, completion, embeddings

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(behave) as service:
        yield service


def sets(data: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in (data / "toy" / "features").glob("*.json"))


# ------------------------------------------------------------------------------------------------ build


def test_the_default_builds_everything_without_an_llm(features, data):
    lines = features("build").splitlines()
    assert lines[0] == "items: text encoder only (no LLM), sentence-transformers/all-MiniLM-L6-v2"
    assert lines[1] == "profiles: offline extractive profiler (no LLM)"
    assert lines[2].startswith(
        "pseudo items: offline retrieval from overlapped users (no LLM); 40 single-domain users x"
    )
    assert sets(data) == ["items", "profiles", "pseudo"]


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["--model=LLM4CDSR"], ["items", "profiles"]),
        (["--model=SASRec"], ["items"]),
        (["--what=items,pseudo"], ["items", "pseudo"]),
    ],
)
def test_a_model_or_a_list_says_what_is_built(features, data, arguments, made):
    features("build", *arguments)
    assert sets(data) == made


@pytest.mark.parametrize("mode", [["--dry-run"], ["--batch-export=batch.jsonl"]])
def test_what_asks_nothing_needs_no_key(features, monkeypatch, mode):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    features("build", "--what=items")
    assert "requests" in features("build", "--what=profiles", "--generator=openai:m", *mode)


def test_a_dry_run_asks_and_builds_nothing_and_counts_what_a_run_then_asks(features, data, service):
    prices = ["--llm_price_prompt=1", "--llm_price_completion=2"]
    planned = features("build", *llm(service.url), *prices, "--dry-run")
    assert not service.requests
    assert sets(data) == []
    assert "items: 144 texts to encode" in planned
    assert "m: 40 requests, 40 different: 0 known, 40 to ask" in planned
    steps = re.findall(r"^(.+), all steps: (\d+) requests to ask, at most ([\d.]+)$", planned, re.MULTILINE)
    assert [name for name, _, _ in steps] == ["profiles", "pseudo items"]
    assert all(float(cost) > 0 for _, _, cost in steps)
    features("build", *llm(service.url))
    asked = Counter("extract" if "Somebody rec" in r.asked else "other" for r in service.requests)
    assert asked["other"] == 40 + 40  # profiles, and 20 single-domain users into two domains each
    again = features("build", *llm(service.url), "--dry-run")
    assert "items: nothing to encode" in again
    assert re.findall(r"all steps: (\d+) requests", again) == ["0", "0"]


def test_later_steps_are_planned_with_as_many_requests_as_a_run_asks(features):
    def differing(received: Received, nth: int) -> Reply:
        return Reply(completion("\n".join(f"{place}. Thing {hash(received.asked)} {place}" for place in (1, 2, 3))))

    features("build", "--what=items")
    with Service(differing) as service:
        keys = llm(service.url, "--profile_clusters=3", style="hierarchical")
        planned = features("build", *keys, "--dry-run")
        features("build", *keys)
        steps = [int(count) for count in re.findall(r"([\d,]+) to ask", planned)]
        assert len(steps) == 4  # two of profiles, two of pseudo items
        assert sum(steps) == len(service.requests)


def encoding(received: Received, nth: int) -> Reply:
    return Reply(embeddings(received.asked)) if received.path.endswith("/embeddings") else behave(received, nth)


def test_a_dry_run_encodes_nothing_and_tells_what_an_embeddings_service_will_be_asked(features, data, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    encoder = ["--llm_encoder_backend=openai", "--llm_encoder=e", "--llm_encoder_price=0.5", "--llm_price_prompt=100"]
    with Service(encoding) as service:
        keys = [*llm(service.url, style="hierarchical"), *encoder]
        planned = features("build", *keys, "--dry-run")
        assert not service.requests
        assert sets(data) == []
        assert "items: interest clusters" not in planned
        assert "build them with --what=items, then plan again" in planned
        assert re.search(r"then at most 400 texts are encoded by e, which costs as well and is in no sum here", planned)
        (cost,) = re.findall(r"^items\n.*\n.*\n.*\n +cost: at most ([\d.]+)", planned, re.MULTILINE)
        assert 0 < float(cost) < 0.001  # by the encoder's own price
    planned = features("build", *encoder, "--profile_encoding=text", "--what=profiles", "--dry-run")
    assert f"no LLM is asked; at most {N_USERS} texts are encoded by e, which costs as well" in planned


@pytest.mark.parametrize("mode", [["--batch-export=batch.jsonl"], ["--shard=1/2"]])
def test_questions_without_clusters_need_no_encoded_items(features, data, service, monkeypatch, mode):
    monkeypatch.setattr("recbole_cdsr.llm.item_table.item_source", lambda *_: pytest.fail("nothing is to be encoded"))
    features("build", *llm(service.url, style="hierarchical"), "--what=pseudo", *mode)


def test_shards_ask_for_different_users_and_their_caches_are_joined(features, data, service, tmp_path):
    caches = [tmp_path / f"{part}.sqlite" for part in (1, 2)]
    for part, cache in enumerate(caches, start=1):
        keys = llm(service.url, f"--llm_cache_file={cache}", "--what=profiles")
        said = features("build", *keys, f"--shard={part}/2")
        assert f"every request for shard {part}/2 of the users is asked (0 given up)" in said
    assert sets(data) == []
    asked = len(service.requests)
    assert asked == N_USERS
    assert len({received.asked for received in service.requests}) == asked
    said = features("import", *map(str, caches))
    assert sum(int(count) for count in re.findall(r"(\d+) new answers", said)) == N_USERS
    assert "profiles: LLM m (flat profiles)" in features("build", *llm(service.url), "--what=profiles")
    assert len(service.requests) == asked


def test_the_most_it_may_cost_holds_for_all_steps_together(data, service, capsys):
    prices = ["--llm_price_prompt=1000", "--llm_price_completion=1000", "--llm_max_new_tokens=20"]
    arguments = ["features", "build", "--dataset", "toy", "--what=profiles", f"--data_path={data}", *llm(service.url)]
    assert main([*arguments, *prices, "--max-cost=0.4", "--show_progress=False"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "llm_max_cost" in line
    assert 0 < len(service.requests) < N_USERS
    spent = len(service.requests) * (10 + 4) * 1000 / 1e6
    assert spent <= 0.4


def test_the_most_it_may_cost_holds_for_all_features_together(data, capsys):
    def costly(received: Received, nth: int) -> Reply:
        if received.path.endswith("/embeddings"):
            return Reply(embeddings(received.asked))
        return behave(received, nth)

    prices = ["--llm_price_prompt=1000", "--llm_price_completion=1000", "--llm_max_new_tokens=20", "--max-cost=1.2"]
    with Service(costly) as service:
        encoder = ["--llm_encoder_backend=openai", "--llm_encoder=e"]
        arguments = ["features", "build", "--dataset", "toy", f"--data_path={data}", *llm(service.url), *encoder]
        assert main([*arguments, *prices, "--show_progress=False"]) == 2
        texts = sum(len(received.asked) for received in service.requests if received.path.endswith("/embeddings"))
        chats = sum(not received.path.endswith("/embeddings") for received in service.requests)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "by the steps before" in line
    assert 0.9 < (5 * texts + 14 * chats) * 1000 / 1e6 <= 1.2


@pytest.mark.parametrize("style", ["hierarchical", "flat"])
def test_no_target_is_in_any_question(features, data, service, style):
    features("build", *llm(service.url, style=style))
    assert len(service.requests) > N_USERS
    for received in service.requests:
        assert not re.search(r"(?:food|tool)-47", received.asked)
    known = {title for received in service.requests for title in re.findall(r"Title \w+-\d+", received.asked)}
    rows = [line.split("\t")[1] for line in (data / "toy" / "toy.inter").read_text().splitlines()[1:]]
    trained = {f"Title {item.replace(':', '-')}" for item in rows if item not in TARGETS}
    assert known == trained  # every item of a training part is in some question


# ------------------------------------------------------------------------------------------------ show, list


def test_show_prints_what_is_known_of_users_and_items(features, service):
    features("build")
    text = features("show", "--users=u0,u1", "--items=food:1", "--neighbours=2", "--prompts")
    of_u0, of_u1, *_, of_item = text.rstrip("\n").split("\n\n")
    assert "user u0\n  history (4 items, oldest first)\n    food       Title food-0" in of_u0
    assert "profile, by offline extractive profiler (no LLM)\n    Interests: Title food-" in of_u0
    assert "pseudo items, by offline retrieval from overlapped users (no LLM)\n    into tool\n" in of_u0
    assert re.search(r"^      Title (tool|book)-(\d+)  -> is the item \1:\2$", of_u0, re.MULTILINE)
    assert "history (12 items, oldest first)" in of_u1
    assert "pseudo items: none, for the user is not single-domain in the training part" in of_u1
    assert "prompt about u0 (Profiles, interest clusters, llm4cdsr_analyser_en-1)" in text
    assert "prompt about u0 (Pseudo items, generation, llmcdsr_generate_en-1)" in text
    assert of_item.startswith("item food:1 (food)\n  text, by the prompt item_en-1\n    Title food-1\n")
    header, *rows = of_item.split("\n")[4:]
    assert header.split() == ["domain", "cosine", "item", "title"]
    assert len(rows) == 6  # two of each domain, the item itself not among them
    for place, row in enumerate(rows):
        domain, item, title = re.fullmatch(r"    (\w+) +-?[01]\.\d{3} +(\S+) +(Title \S+)", row).groups()
        assert domain == DOMAINS[place // 2] == item.partition(":")[0]
        assert title == f"Title {item.replace(':', '-')}"
        assert item != "food:1"
        assert row.index(item) == header.index("item")


def test_show_prints_the_prompts_that_are_sent(features, service, tiny_model):
    keys = llm(service.url, f"--llm_tokenizer={tiny_model}", "--prompt_history_tokens=70", "--what=profiles")
    features("build", *keys)
    shown = features("show", *keys[:-1], "--users=u1", "--prompts")
    prompt = (
        shown[shown.index("prompt about u1 (Profiles") :].partition("\nuser: ")[2].split("\n\nprompt about")[0].strip()
    )
    assert prompt.count("Title") < 12  # fewer than are known of u1
    assert prompt in [received.asked.strip() for received in service.requests]


def test_show_tells_what_the_llm_wrote_and_what_it_means(features, service):
    features("build", *llm(service.url))
    text = features("show", *llm(service.url), "--users=u0")
    assert "profile, by LLM m (flat profiles)\n    Somebody who likes this and that." in text
    assert re.search(r"      Kettle  -> nearest item tool:(\d+) \(-?\d\.\d\d\): Title tool-\1$", text, re.MULTILINE)


def test_show_builds_nothing_and_says_what_is_not_there(features, data, service, capsys):
    features("build", "--what=items")
    asked = len(service.requests)
    text = features("show", *llm(service.url), "--users=u0")
    assert "not built" in text
    assert len(service.requests) == asked
    assert sets(data) == ["items"]


def test_list_is_a_table_of_sets(features, data):
    assert features("list") == f"There are no feature sets in {data / 'toy' / 'features'}.\n"
    features("build")
    header, *rows = features("ls").splitlines()
    assert header.split() == ["kind", "made", "by", "encoder", "size", "date", "file"]
    assert [row.split()[0] for row in rows] == ["items", "profiles", "pseudo"]
    assert "144 x 384" in rows[0]


# ------------------------------------------------------------------------------------------------ names


def run(capsys: pytest.CaptureFixture[str], data: Path, *arguments: str, code: int = 0) -> str:
    """Run `features …` as it is written; what it printed, or what it complained about."""
    capsys.readouterr()
    assert main(["features", *arguments, f"--data_path={data}", "--show_progress=False"]) == code
    output = capsys.readouterr()
    return output.out if code == 0 else output.err


def test_a_dataset_may_be_named_without_an_option(data, capsys):
    assert run(capsys, data, "toy", "--what", "items").startswith("items: text encoder only (no LLM)")
    assert sets(data) == ["items"]
    run(capsys, data, "--what=profiles", "toy")
    run(capsys, data, "build", "toy", "--what", "pseudo")
    assert sets(data) == ["items", "profiles", "pseudo"]
    assert len(run(capsys, data, "ls", "toy").splitlines()) == 4
    assert "user u0\n" in run(capsys, data, "show", "toy", "--users", "u0")
    assert "user u0\n" in run(capsys, data, "show", "--users=u0", "toy", "--dataset=toy")


def test_a_dataset_named_like_an_action_is_reached_with_dataset(data, capsys):
    (data / "toy").rename(data / "show")
    for file in (data / "show").iterdir():
        file.rename(file.with_name(file.name.replace("toy", "show")))
    run(capsys, data, "--dataset", "show", "--what=items")
    assert "items" in run(capsys, data, "ls", "show")
    assert "item food:1" in run(capsys, data, "show", "show", "--items=food:1")


def test_ls_without_a_name_lists_every_dataset(data, capsys):
    assert run(capsys, data, "ls") == f"There are no feature sets of any dataset in {data}.\n"
    (data / "other").mkdir()
    for file in (data / "toy").iterdir():
        (data / "other" / file.name.replace("toy", "other")).write_bytes(file.read_bytes())
    (data / "empty").mkdir()
    run(capsys, data, "toy", "--what=items")
    run(capsys, data, "other", "--what=items,pseudo")
    of_other, of_toy = run(capsys, data, "ls").rstrip("\n").split("\n\n")
    assert of_other.splitlines()[0] == str(data / "other" / "features")
    assert [line.split()[0] for line in of_other.splitlines()[2:]] == ["items", "pseudo"]
    assert of_toy.splitlines()[0] == str(data / "toy" / "features")
    assert [line.split()[0] for line in of_toy.splitlines()[2:]] == ["items"]


def test_encoder_and_generator_stand_for_their_settings(data, capsys, service, tiny_model):
    llm_keys = ["--generator=openai:m", f"--llm_base_url={service.url}", "--llm_api_key_env=TEST_KEY"]
    encoder = ["--encoder", f"transformers:{tiny_model}"]
    said = run(capsys, data, "toy", "--what=profiles", *encoder, *llm_keys, "--profile_style=flat")
    assert "items: states of a language model, used as text encoder" in said
    assert "profiles: LLM m (flat profiles)" in said
    assert len(service.requests) == N_USERS
    long = ["--llm_encoder_backend=transformers", f"--llm_encoder={tiny_model}", *llm(service.url), "--users=u0"]
    assert "profile, by LLM m (flat profiles)\n    Somebody" in run(capsys, data, "show", "toy", *long)
    assert "nothing is asked" in run(capsys, data, "toy", "--what=pseudo", "--generator=offline", "--dry-run")
    # What is set in so many words holds.
    said = run(capsys, data, "toy", "--what=pseudo", "--dry-run", *llm_keys, "--pseudo_generator=retrieval")
    assert "nothing is asked" in said


def test_help_tells_both_spellings(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["features", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "`features NAME ...` is `features build NAME ...`" in text
    with pytest.raises(SystemExit, match="0"):
        main(["features", "toy", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "features build NAME [--option" in text
    assert "--encoder [BACKEND:]MODEL" in text
    assert "llm_generator" in text


# ------------------------------------------------------------------------------------------------ log


def test_what_a_build_says_it_says_once(features, service, caplog):
    caplog.set_level("INFO")
    features("build", *llm(service.url), "--what=profiles,pseudo")
    said = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("Item features: 144 x 384") for text in said) == 1
    reports = [text for text in said if re.search(r"\d+ requests: ", text)]
    assert len(reports) == 3  # of profiles, of pseudo items, and of the names in these


def test_what_was_given_up_is_said_once(features, caplog):
    def failing(received: Received, nth: int) -> Reply:
        too_long = "food-0" in received.asked
        return Reply({"error": {"message": "too long"}}, status=400) if too_long else behave(received, nth)

    with Service(failing) as service:
        features("build", *llm(service.url), "--what=profiles")
    given_up = [record.getMessage() for record in caplog.records if "given up, and the next run" in record.getMessage()]
    assert len(given_up) == 1
    assert given_up[0].startswith("1 requests were given up")


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["toys"], "Dataset 'toys' is not there"),
        (["shwo"], "Or was `features show` meant?"),
        (["shwo", "toy", "--users=u0"], "Or was `features show` meant?"),
        (["paint", "--dataset=toy"], "'paint' beside --dataset toy; name one dataset"),
        (["build", "--what=items"], "No dataset is named"),
        (["show", "toy", "--dataset=other", "--users=u0"], "'toy' beside --dataset other"),
        (["toy", "--generator=gpt-4o"], "--generator is 'gpt-4o'; write BACKEND or BACKEND:MODEL"),
        (["toy", "--generator=openai:m", "--llm_model=n"], "--llm_model is given twice"),
        (["toy", "--what=items", "--generator=openai:m"], "--generator writes profiles and pseudo items"),
        (["toy", "--encoder=openai"], "llm_encoder names no model"),
        (["toy", "--data_path", "x"], "--data_path"),
    ],
)
def test_a_wrong_name_gets_one_line(data, capsys, arguments, answer):
    errors = run(capsys, data, *arguments, code=2).splitlines()
    assert [answer in line for line in errors if line.startswith("recbole-cdsr: ")] == [True]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["show"], "features show needs --users or --items"),
        (["show", "--users=u0x"], "'toy' has no user 'u0x'"),
        (["show", "--items=food:99"], "'toy' has no item 'food:99'"),
        (["show", "--users=u0"], "There are no item features yet"),
        (["build", "--what=users"], "--what is 'users'; it must be one or more of items, profiles, pseudo"),
        (["build", "--shard=1/2"], "there is nothing to ask; set profile_generator=llm"),
        (["build", "--shard=3/2", *llm("http://127.0.0.1:9/v1")], "--shard is '3/2'"),
        (["build", "--dry-run", "--batch-export=x"], "--dry-run and --batch-export exclude each other"),
        (["build", "--profile_generator=gpt"], "profile_generator is 'gpt'; it must be one of"),
        (["build", "--profile_generator=llm"], "An LLM is to write the profiles, but llm_generator is offline"),
        (["build", "--pseudo_shots=-1"], "pseudo_shots is -1"),
        (["build", "--prompt_files={analyzer: x.yaml}"], "prompt_files names the task 'analyzer'; tasks are"),
        (["build", "--model=LLM4CDRS"], "There is no model named 'LLM4CDRS'; did you mean LLM4CDSR"),
        (["build", "--max-cost=1", *llm("http://127.0.0.1:9/v1")], "llm_price_prompt and llm_price_completion are not"),
        (["build", "stray"], "stray"),
        (["import", "nothing.jsonl"], "nothing.jsonl"),
    ],
)
def test_a_mistake_gets_one_line(data, capsys, arguments, answer):
    action, *more = arguments
    code = main(["features", action, "--dataset", "toy", *more, f"--data_path={data}", "--show_progress=False"])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recbole-cdsr: ")]
    assert code == 2
    assert len(errors) == 1
    assert answer in errors[0]


# ------------------------------------------------------------------------------------------------ processes


def test_a_killed_build_goes_on_where_it_stopped(data, tmp_path):
    address = tmp_path / "address"
    questions = Path(f"{address}.questions")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("service.py")), str(address), "0.1"], env=environment
    )
    try:
        wait_for(address.is_file)
        command = [sys.executable, "-m", "recbole_cdsr.cli", "features", "build", "--dataset=toy", "--what=profiles"]
        command += [f"--data_path={data}", "--show_progress=False", "--llm_concurrency=4"]
        command += llm(address.read_text())
        build = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: questions.is_file() and len(questions.read_text().splitlines()) >= 8)
        build.send_signal(signal.SIGKILL)
        build.communicate()
        asked = len(questions.read_text().splitlines())
        assert asked < N_USERS
        assert sets(data) == ["items"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "profiles: LLM m (flat profiles)" in done.stdout
        total = Counter(questions.read_text().splitlines())
        assert len(total) == N_USERS
        assert sum(total.values()) <= N_USERS + 4  # those that were on their way when it was killed
    finally:
        server.kill()
        server.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
