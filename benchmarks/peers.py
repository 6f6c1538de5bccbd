"""The same rows and the same model through lm-evaluation-harness and through evalkit.

    python benchmarks/peers.py --data-root ROOT --tokenizer INTERNLM2_FOLDER --peer-python PYTHON [--runs 3]

PYTHON belongs to an environment of its own that has the peer:

    python -m venv PEER; PEER/bin/pip install torch==2.13.0; PEER/bin/pip install 'lm-eval[hf]==0.4.13'

A random Llama (hidden 512, 8 layers, vocabulary 92,544, float32) and a fast tokenizer are written to a
temporary folder that both load. Timed is from strings to log-probabilities, loading left out: lm-eval's
`HFLM.loglikelihood` in batches of 8, with its own reuse of contexts for single-token continuations, and
evalkit's `HFEngine.run`. Both run in processes that stay loaded and take turns; medians are compared.
Exit status 1 when log-probabilities differ by more than 1e-3 nats or another option wins.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CLOSE, ROWS = 1e-3, 8
Losses = list[list[float]]
CASES = {
    "single letters, MMLU 5-shot": ("letters", "anatomy"),
    "option texts, 10-shot": ("option_texts", "jurisprudence"),
}
PEER = """
import json, sys, time, logging
logging.disable(logging.WARNING)
import torch
torch.set_num_threads(int(sys.argv[2]))
from lm_eval.models.huggingface import HFLM
from lm_eval.api.instance import Instance
lm = HFLM(pretrained=sys.argv[1], dtype="float32", device="cpu", batch_size=int(sys.argv[3]), add_bos_token=True)
out = sys.stdout
sys.stdout = sys.stderr
print("ready", file=out, flush=True)
for line in sys.stdin:
    pairs = [(c, o) for c, options in json.loads(line) for o in options]
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    began = time.perf_counter()
    found = lm.loglikelihood(asked, disable_tqdm=True)
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, [-value for value, _ in found]]), file=out, flush=True)
"""


class Peer:
    """lm-eval in a process of its own environment."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        command = [python, "-c", PEER, str(model), str(threads), str(ROWS)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peer's process ended; its error is above")
        return line

    def run(self, questions: Sequence[Any]) -> tuple[float, list[float]]:
        """(seconds, losses in nats) of all options."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([[q.context, q.options] for q in questions]) + "\n")
        seconds, losses = json.loads(self._line())
        return seconds, losses

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_model(folder: Path, tokenizer: str) -> None:
    """The random model and InternLM2's tokenizer as a tokenizer.json, for both to load."""
    from scoring import parser_of_model

    from evalkit.core.records import ModelSpec
    from evalkit.engines.hf.internlm.tokenizer import load_internlm_tokenizer

    make, arguments = parser_of_model()
    make(arguments).save_pretrained(folder)
    fast = load_internlm_tokenizer(ModelSpec("m", tokenizer, "base"))
    fast.save_pretrained(folder)
    # a class that any transformers has
    config = folder / "tokenizer_config.json"
    stated = json.loads(config.read_text())
    config.write_text(json.dumps({**stated, "tokenizer_class": "PreTrainedTokenizerFast"}))


def own_run(folder: Path, threads: int) -> Callable[[Sequence[Any]], tuple[float, list[float]]]:
    """evalkit's engine on the same folder."""
    import torch

    from evalkit.core.records import ModelSpec, Request
    from evalkit.engines.hf.engine import HFEngine

    torch.set_num_threads(threads)
    engine = HFEngine(ModelSpec("m", str(folder), "base", dtype="float32", max_seq_len=8192))

    def run(questions: Sequence[Any]) -> tuple[float, list[float]]:
        keys = [f"{q.id} {i}" for q in questions for i in range(len(q.options))]
        texts = [(q.context, option) for q in questions for option in q.options]
        asked = [
            Request(key, "s", "ll", text=context, continuation=option)
            for key, (context, option) in zip(keys, texts, strict=True)
        ]
        began = time.perf_counter()
        found = {reply.key: reply.nll for reply in engine.run(asked) if reply.nll is not None}
        return time.perf_counter() - began, [found[key] for key in keys]

    return run


def winners(losses: Sequence[float], questions: Sequence[Any]) -> list[int]:
    """The likeliest option of each question."""
    out, at = [], 0
    for question in questions:
        own = list(losses[at : at + len(question.options)])
        out.append(own.index(min(own)))
        at += len(own)
    return out


def main() -> int:
    """Print a line for each kind of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--questions", type=int, nargs=2, default=[60, 16], help="of single letters, of option texts")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import rows

    agree = True
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), args.tokenizer)
        peer, own = Peer(args.peer_python, Path(name), args.threads), own_run(Path(name), args.threads)
        print(f"load average {os.getloadavg()[0]:.1f}; {args.threads} threads; {args.runs} runs", flush=True)
        for (title, (kind, subject)), count in zip(CASES.items(), args.questions, strict=True):
            questions = getattr(rows, kind)(args.data_root, subject, count)
            peer.run(questions[:1]), own(questions[:1])  # threads and memory are warm
            runs = [(peer.run(questions), own(questions)) for _ in range(args.runs)]
            theirs, ours = (statistics.median(run[i][0] for run in runs) for i in range(2))
            (_, first), (_, second) = runs[0]
            apart = max(abs(a - b) for a, b in zip(first, second, strict=True))
            same = winners(first, questions) == winners(second, questions)
            agree = agree and same and apart <= CLOSE
            print(
                f"{title}: {len(questions)} questions, {len(first)} options; "
                f"lm-eval {theirs:.2f} s, evalkit {ours:.2f} s: "
                f"{theirs / ours:.1f} times; largest difference {apart:.1e} nats, predictions "
                f"{'equal' if same else 'DIFFER'}",
                flush=True,
            )
        peer.close()
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
