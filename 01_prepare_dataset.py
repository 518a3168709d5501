"""Stage 01: official FinQA files to questions, split by page. The same as `finrank prepare`; --help tells the flags."""

from finrank.cli import run_script

if __name__ == "__main__":
    run_script("prepare")
