#!/usr/bin/env python3
"""Compares our logits of real models with llama.cpp's: mean KL divergence, agreement of the best token, log-likelihood.

    kl_llama.py --llama DIR-WITH-llama-perplexity --text FILE [--tokens 512] [--level L] MODEL.gguf...

llama-perplexity writes the log-probabilities of the second half of a context (16 bits each, at most 16 below the best)
and the tokens; the logits tool runs the same tokens. Exit status 1 when a mean divergence is over --limit.
"""
import argparse
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]


def llama_log_probs(opt, model, folder):
    """tokens[n_ctx], log-probabilities [rows][n_vocab] of positions n_ctx / 2 .. n_ctx - 2."""
    out = folder / "base"
    subprocess.run([opt.llama / "llama-perplexity", "-m", model, "-f", opt.text, "-c", str(opt.tokens), "--chunks", "1",
                    "-t", "2", "--kl-divergence-base", out], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=600)
    raw = out.read_bytes()
    n_ctx, n_vocab, n_chunk = struct.unpack_from("<iii", raw, 8)
    tokens = np.frombuffer(raw, np.int32, n_ctx * n_chunk, 20)[:n_ctx]
    width, n_rows = 2 * ((n_vocab + 1) // 2) + 4, n_ctx - 1 - n_ctx // 2
    rows = np.frombuffer(raw, np.uint16, width * n_rows, 20 + 4 * n_ctx * n_chunk).reshape(n_rows, width)
    head = rows[:, :4].copy().view(np.float32)
    return tokens, rows[:, 4:4 + n_vocab] * head[:, :1].astype(np.float64) + head[:, 1:]


def our_log_probs(opt, model, tokens, folder):
    ids = folder / "ids"
    ids.write_bytes(np.asarray(tokens, "<u4").tobytes())
    level = ["--cpu-level", opt.level] if opt.level else []
    done = subprocess.run([opt.build / "tests" / "logits", model, ids] + level, check=True, stdout=subprocess.PIPE,
                          timeout=600)
    logits = np.frombuffer(done.stdout, np.float32).reshape(len(tokens), -1)[len(tokens) // 2:-1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def compare(opt, model):
    with tempfile.TemporaryDirectory() as name:
        tokens, theirs = llama_log_probs(opt, model, pathlib.Path(name))
        ours = our_log_probs(opt, model, tokens, pathlib.Path(name))
    # Their file is clipped: outside it both sides are taken as equal.
    kl = np.where(theirs > theirs.min(axis=1, keepdims=True), np.exp(theirs) * (theirs - ours), 0).sum(axis=1)
    same = (theirs.argmax(axis=1) == ours.argmax(axis=1)).mean()
    after = tokens[len(tokens) // 2 + 1:]
    rows = np.arange(len(after))
    nll_theirs, nll_ours = -theirs[rows, after].mean(), -ours[rows, after].mean()
    print(f"{pathlib.Path(model).name}: {len(rows)} rows, mean KL {kl.mean():.2e}, max {kl.max():.2e}, "
          f"same best {same:.1%}, perplexity {np.exp(nll_ours):.4f} (llama.cpp {np.exp(nll_theirs):.4f})", flush=True)
    return kl.mean()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", type=pathlib.Path)
    p.add_argument("--llama", type=pathlib.Path, required=True)
    p.add_argument("--text", type=pathlib.Path, required=True)
    p.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--level")
    p.add_argument("--limit", type=float, default=1e-2)
    opt = p.parse_args()
    return 1 if any([compare(opt, m) > opt.limit for m in opt.models]) else 0


if __name__ == "__main__":
    sys.exit(main())
