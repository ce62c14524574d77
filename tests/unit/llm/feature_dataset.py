"""A dataset of three domains for `recbole-cdsr features`, and a service that writes its features."""

from __future__ import annotations

from pathlib import Path

from .service import Received, Reply, completion

DOMAINS = ("food", "tool", "book")
N_ITEMS = 48
TARGETS = ["food:47", "tool:47"]  # of everybody, and in nobody's training part
N_USERS = 40


def write_dataset(root: Path) -> Path:
    """Every other user knows one domain, the others all three; leave-one-out."""
    folder = root / "toy"
    folder.mkdir(parents=True)
    items = [f"{domain}:{i}\t{domain}\tTitle {domain}-{i}\n" for domain in DOMAINS for i in range(N_ITEMS)]
    (folder / "toy.item").write_text("item_id:token\tdomain:token\ttitle:token_seq\n" + "".join(items))
    rows = []
    for user in range(N_USERS):
        known = DOMAINS if user % 2 else DOMAINS[user // 2 % 3 : user // 2 % 3 + 1]
        history = [f"{domain}:{user + i}" for i in range(4) for domain in known]
        rows += [f"u{user}\t{item}\t{time}\n" for time, item in enumerate([*history, *TARGETS])]
    (folder / "toy.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(rows))
    return folder


def behave(received: Received, nth: int) -> Reply:
    if "domain" in received.asked and "items of the domain" in received.asked:
        return Reply(completion("1. Kettle\n2. Toaster\n3. Oven"))
    return Reply(completion("Somebody who likes this and that."))


def llm(url: str, *more: str, style: str = "flat") -> list[str]:
    return [
        "--profile_generator=llm",
        f"--profile_style={style}",
        "--pseudo_generator=llm",
        "--llm_generator=openai",
        "--llm_model=m",
        f"--llm_base_url={url}",
        "--llm_api_key_env=TEST_KEY",
        *more,
    ]
