"""Rows a second and peak memory of `recbole-cdsr convert amazon`, against plain pandas, on generated reviews.

    python benchmarks/conversion.py [--reviews 1000000 10000000] [--folder DIR]

Two categories in the layout of Amazon review data (2018) are generated once (gzip, some 510 bytes a review; users and
items follow a power law). Each way then reads the same files, keeps a time window, one of repeated interactions, and
the 5-core of the merged data, and writes the interactions in order; it runs in a process of its own, so that its peak
memory is its own. Ours does more: it hashes the files, checks every line and writes items and card. The `.inter` files
must be the same, byte for byte.

Two pandas versions: `pd.read_json` of whole files, as one would write it first; and in chunks of which only the columns
needed are kept, as one would write it after running out of memory. A process may take `--limit` GiB. The last
columns are theirs over ours; on a machine with other work on it, compare the seconds of CPU.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

from measuring import Stopwatch, peak_mib

CATEGORIES = {"elec": "Electronics", "phone": "Cell_Phones_and_Accessories"}
WAYS = {"ours": "recbole-cdsr convert", "pandas": "pandas, whole files", "chunks": "pandas, in chunks"}
SINCE, UNTIL = 1_500_000_001, 1_599_999_999
MIN_USER = MIN_ITEM = 5
_COLUMNS = ["reviewerID", "asin", "overall", "unixReviewTime"]


def generate(folder: Path, n_reviews: int) -> None:
    """Write `n_reviews` reviews, half of them of either category; the same for the same number."""
    from isal import igzip

    folder.mkdir(parents=True)
    draw = random.Random(n_reviews)
    letters = "eeeetttaaooiinnsshhrrdlucmwfgypbvk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    # Distinct texts of more than gzip's window, so that it finds no review twice.
    texts = [" ".join(draw.choices(words, k=draw.randint(5, 75))) for _ in range(20_000)]
    n_users, n_items = n_reviews // 4, n_reviews // 40
    for category in CATEGORIES.values():
        with igzip.open(folder / f"{category}.json.gz", "wt", compresslevel=1) as stream:
            for _ in range(n_reviews // 2):
                user, item = int(n_users * draw.random() ** 2.5), int(n_items * draw.random() ** 2.5)
                stream.write(
                    f'{{"overall": {draw.randint(1, 5)}.0, "verified": true, "reviewTime": "05 1, 2019", '
                    f'"reviewerID": "A{user:013X}", "asin": "B{item:09X}", "style": {{"Color:": " Black"}}, '
                    f'"reviewerName": "{draw.choice(words)} {draw.choice(words)}", '
                    f'"reviewText": "{draw.choice(texts)}", "summary": "{draw.choice(words)}", '
                    f'"unixReviewTime": {draw.randrange(1_420_000_000, 1_640_000_000)}}}\n'
                )


def convert_ours(raw: Path, out: Path) -> Path:
    from recbole_cdsr import cli

    options = f"--name bench --domains elec,phone --without-text --dedup first --from {SINCE} --to {UNTIL}"
    options += f" --min-user {MIN_USER} --min-item {MIN_ITEM}"
    if code := cli.main(["convert", "amazon", "--raw", str(raw), "--out", str(out), *options.split()]):
        sys.exit(code)
    return out / "bench" / "bench.inter"


def convert_with_pandas(raw: Path, out: Path, in_chunks: bool) -> Path:
    import pandas as pd

    def read() -> Iterator[pd.DataFrame]:
        for domain, category in CATEGORIES.items():
            path = raw / f"{category}.json.gz"
            chunks = pd.read_json(path, lines=True, chunksize=50_000) if in_chunks else [pd.read_json(path, lines=True)]
            for chunk in chunks:
                chunk["asin"] = f"{domain}:" + chunk["asin"]
                if in_chunks:  # what is not needed goes as early as it can
                    chunk = chunk.loc[chunk["unixReviewTime"].between(SINCE, UNTIL), _COLUMNS]
                yield chunk

    rows = pd.concat(read(), ignore_index=True)
    rows = rows[rows["unixReviewTime"].between(SINCE, UNTIL)]
    rows = rows.sort_values(["reviewerID", "unixReviewTime"], kind="stable")
    rows = rows.drop_duplicates(["reviewerID", "asin"], keep="first")
    while True:
        of_user = rows.groupby("reviewerID")["asin"].transform("size")
        of_item = rows.groupby("asin")["asin"].transform("size")
        kept = (of_user >= MIN_USER) & (of_item >= MIN_ITEM)
        if kept.all():
            break
        rows = rows[kept]
    rows = rows[_COLUMNS].rename(
        columns=dict(zip(_COLUMNS, ["user_id:token", "item_id:token", "rating:float", "timestamp:float"], strict=True))
    )
    rows["rating:float"] = rows["rating:float"].astype(int)
    path = out / "bench.inter"
    rows.to_csv(path, sep="\t", index=False)
    return path


def measure(way: str, raw: Path, limit_gib: float) -> dict[str, float | str]:
    """Convert in this process; seconds, MiB and the output's hash."""
    import hashlib

    resource.setrlimit(resource.RLIMIT_AS, (int(limit_gib * 2**30),) * 2)
    with tempfile.TemporaryDirectory(dir=raw.parent) as out:
        with Stopwatch() as seconds:
            if way == "ours":
                path = convert_ours(raw, Path(out))
            else:
                path = convert_with_pandas(raw, Path(out), in_chunks=way == "chunks")
        cpu, peak = process_time(), peak_mib()  # of the whole process, its imports included
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with path.open("rb") as stream:
            kept = sum(1 for _ in stream) - 1
    return {
        "wall": seconds.wall,
        "cpu": cpu,
        "peak_mib": peak,
        "sha256": digest,
        "kept": kept,
    }


def main() -> None:
    """Measure every way on every size in a process of its own and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, help="where the generated files are kept (default: not kept)")
    parser.add_argument("--limit", type=float, default=16.0, metavar="GIB", help="memory a process may take")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--way", choices=WAYS, help="measure this way only, in this process, and print JSON")
    parser.add_argument("--raw", type=Path, help="the files for --way")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.raw, options.limit)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for n_reviews in options.reviews:
            compare(options.folder or Path(temporary), n_reviews, options.limit, options.ways)


def compare(folder: Path, n_reviews: int, limit_gib: float, ways: list[str]) -> None:
    """Generate the files if they are not there, run every way on them and print a table."""
    raw = folder / f"amazon-{n_reviews}"
    if not raw.is_dir():
        generate(raw.with_suffix(".part"), n_reviews)
        raw.with_suffix(".part").rename(raw)
    packed = sum(path.stat().st_size for path in raw.iterdir())
    found: dict[str, dict] = {}
    for way in ways:
        command = [sys.executable, __file__, "--way", way, "--raw", str(raw), "--limit", str(limit_gib)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found[way] = json.loads(done.stdout.splitlines()[-1])
        elif "MemoryError" not in done.stderr and "Unable to allocate" not in done.stderr:
            sys.exit(f"{way} failed:\n{done.stderr}")
    kept = "".join(sorted({f", {each['kept']:,} interactions kept" for each in found.values()}))
    print(f"{n_reviews:,} reviews in {packed / 2**20:,.0f} MiB of gzip{kept}")
    print(f"{'':24}{'wall s':>9}{'rows/s':>10}{'CPU s':>9}{'peak MiB':>10}{'/ wall':>9}{'/ CPU':>8}{'/ peak':>9}")
    ours = found.get("ours")
    for way in ways:
        if way not in found:
            print(f"{WAYS[way]:24}needs more than {limit_gib:g} GiB of memory")
            continue
        each = found[way]
        line = f"{WAYS[way]:24}{each['wall']:9.1f}{n_reviews / each['wall']:10,.0f}{each['cpu']:9.1f}"
        line += f"{each['peak_mib']:10,.0f}"
        if ours and way != "ours":
            line += f"{each['wall'] / ours['wall']:8.1f}x{each['cpu'] / ours['cpu']:7.1f}x"
            line += f"{each['peak_mib'] / ours['peak_mib']:8.1f}x"
        print(line, flush=True)
    if len({each["sha256"] for each in found.values()}) > 1:
        sys.exit("the ways do not agree: their .inter files differ")
    if len(found) > 1:
        print("their .inter files are identical")
    print(flush=True)


if __name__ == "__main__":
    main()
