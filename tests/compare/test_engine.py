"""Logits of the engine and of the plain numpy forward pass agree on tiny random models: every architecture and RoPE
variant. Float weights: to 1e-3 by norm, of which nearly all is the 16-bit KV cache: the C level is closer to a reference
that rounds keys and values to f16, and exact to float before any key is shared (row 0). Quantised weights, whose inputs
the engine rounds to 8 bits: to a few percent.

Needs numpy, gguf, pytest, and `make tools`.
"""
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_TOKENS = 50  # beyond gemma3's window of 16 and one KV page of 32

FLOAT_CASES = {
    "llama": [],
    "llama-untied": ["--untied"],
    "llama-linear": ["--rope", "linear"],
    "llama-yarn": ["--rope", "yarn"],
    "llama-yarn-attn": ["--rope", "yarn", "--yarn-attn-factor", "0.8"],
    "llama-llama3": ["--rope", "llama3"],
    "llama-head-dim": ["--head-dim", "24", "--kv-heads", "1"],
    "llama-mha": ["--heads", "8", "--kv-heads", "8"],
    "llama-odd-vocab": ["--vocab", "301"],
    "qwen2": ["--arch", "qwen2"],
    "qwen2-untied-yarn": ["--arch", "qwen2", "--untied", "--rope", "yarn", "--rope-base", "1000000"],
    "gemma3": ["--arch", "gemma3"],
    "gemma3-linear": ["--arch", "gemma3", "--rope", "linear", "--rope-factor", "8"],
    "gemma3-pattern-softcap": ["--arch", "gemma3", "--pattern", "3", "--softcap", "4"],
    "gemma3-wide-window": ["--arch", "gemma3", "--window", "40", "--untied"],
    "llama-all-experts": ["--experts", "6", "--experts-used", "6"],
    "llama-longrope": ["--rope", "longrope"],
    "llama-f16": ["--type", "f16"],
    "llama-bf16": ["--type", "bf16"],
}
# A rounding in the cache can flip a close choice of expert, so these need a reference with the same cache.
CHOICE_CASES = {"llama-experts": ["--experts", "6", "--experts-used", "2"]}
QUANT_TYPES = ["q4_0", "q4_1", "q8_0", "q4_k", "q5_k", "q6_k"]


def make(tmp_path, args):
    path = tmp_path / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tools" / "make-tiny-gguf", path, *args], check=True)
    return path


def ids_of(path):
    n_vocab = len(reference.Model(path).value("tokenizer.ggml.tokens"))
    return np.random.default_rng(5).integers(0, n_vocab, N_TOKENS)


def engine_logits(build, path, ids, *args):
    file = path.with_suffix(".ids")
    file.write_bytes(np.asarray(ids, "<u4").tobytes())
    done = subprocess.run([build / "tests" / "logits", path, file, *args], stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(len(ids), -1)


def levels(build, path, ids):
    """Levels that this CPU has: the tool refuses the others."""
    out = []
    for level in ("c", "avx2", "avx512", "amx"):
        done = subprocess.run([build / "tests" / "logits", path, "/dev/null", "--cpu-level", level, "--quiet"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        out += [level] if done.returncode == 0 else []
    return out


def relative_error(got, want):
    assert got.shape == want.shape and np.isfinite(got).all()
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def worst_row(got, want):
    assert got.shape == want.shape and np.isfinite(got).all()
    return (np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)).max()


@pytest.mark.parametrize("name", FLOAT_CASES)
def test_float_weights(build, tmp_path, name):
    path = make(tmp_path, FLOAT_CASES[name])
    ids = ids_of(path)
    want = reference.logits(path, ids)
    for level in levels(build, path, ids):
        for batch in ("1", "50"):
            error = relative_error(engine_logits(build, path, ids, "--cpu-level", level, "--batch", batch), want)
            assert error < 1e-3, f"{level}, batch {batch}: {error:.2e}"


@pytest.mark.parametrize("name", FLOAT_CASES | CHOICE_CASES)
def test_only_the_cache_rounds(build, tmp_path, name):
    path = make(tmp_path, (FLOAT_CASES | CHOICE_CASES)[name])
    ids = ids_of(path)
    want = reference.logits(path, ids, kv_dtype=np.float16)
    got = engine_logits(build, path, ids, "--cpu-level", "c")
    assert worst_row(got[:1], want[:1]) < 2e-5
    error = worst_row(got, want)
    assert error < 5e-4, f"{error:.2e}"  # a rounding that falls the other way changes a key by 1e-3


@pytest.mark.parametrize("qtype", QUANT_TYPES)
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma3"])
def test_quantised_weights(build, tmp_path, arch, qtype):
    path = make(tmp_path, ["--arch", arch, "--type", qtype, "--width", "256", "--head-dim", "64", "--ffn", "512"])
    ids = ids_of(path)
    want = reference.logits(path, ids)
    for level in levels(build, path, ids):
        error = relative_error(engine_logits(build, path, ids, "--cpu-level", level), want)
        assert error < 5e-2, f"{level}: {error:.2e}"
