"""Train and judge a model: `python run_recbole_cdsr.py --model=LLM4CDSR --dataset=douban [--key=value …]`."""

import sys

from recbole_cdsr.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
