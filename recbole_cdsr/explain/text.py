"""Explanations as text for a person."""

from __future__ import annotations

from recbole_cdsr.explain.recall_view import ExplainedUser, RecallSummary

TITLE_WIDTH = 80


def user_text(user: ExplainedUser, n_history: int) -> str:
    """A user's latest history and, for each domain recalled into, names with weights and items with cosines."""
    lines = [f"user {user.token}: {len(user.history)} training items, {user.n_held_out} held out"]
    latest = user.history[-n_history:] if n_history else []
    lines += [f"  {domain:12s} {_short(title)}" for title, domain in latest]
    if not user.recalled:
        lines.append(
            "  no pseudo items: not a single-domain user of the training part, or too few names were generated"
        )
    for into in user.recalled:
        lines.append(f"  into {into.domain}: weight, generated name")
        lines += [f"    {weight:6.3f}  {_short(name)}" for name, weight in into.names]
        lines.append(f"  into {into.domain}: cosine, recalled item (* = held out)")
        lines += [f"    {cosine:6.3f} {'*' if hit else ' '} {_short(title)}" for title, cosine, hit in into.items]
        if into.held_out:
            hits = sum(hit for _, _, hit in into.items)
            lines.append(f"  held out in {into.domain}, {hits} recalled: {'; '.join(map(_short, into.held_out))}")
        else:
            lines.append(f"  held out in {into.domain}: nothing")
    return "\n".join(lines)


def summary_text(summary: list[RecallSummary]) -> str:
    """Hit rates by domain, beside what chance gives."""
    if not summary:
        return "No user with pseudo items has held-out interactions in a domain recalled into; nothing can be counted."
    return "\n".join(
        f"into {each.domain}: of {each.n_users} users with held-out items there, {each.hit_rate:.2%} have one among "
        f"the recalled items (drawn uniformly: {each.by_chance:.2%})"
        for each in summary
    )


def _short(title: str) -> str:
    return title if len(title) <= TITLE_WIDTH else f"{title[: TITLE_WIDTH - 1]}…"
