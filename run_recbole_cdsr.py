"""Train and judge a model: `python run_recbole_cdsr.py --model=LLM4CDSR --dataset=douban [--key=value …]`."""

import sys

if __name__ == "__main__":
    try:
        from recbole_cdsr.cli import main
    except KeyboardInterrupt:
        sys.exit(130)  # interrupted while the libraries were being loaded: nothing has begun
    sys.exit(main(["run", *sys.argv[1:]]))
