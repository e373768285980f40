"""Our unpacking of weight blocks agrees bit for bit with that of the Python package gguf, on random and extreme blocks.

Needs numpy, gguf, pytest, and `make tools`.
"""
import subprocess

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf import quants

TYPES = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K,
         T.IQ4_NL, T.IQ4_XS, T.MXFP4]


def unpack(build, qtype, raw):
    done = subprocess.run([build / "tests" / "unpack_blocks", str(int(qtype))], input=raw, stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, dtype=np.float32)


def expected(qtype, raw):
    # F16 and F32 are not "quantised" types to the package
    if qtype in (T.F32, T.F16):
        return np.frombuffer(raw, dtype=np.float32 if qtype == T.F32 else np.float16).astype(np.float32)
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(-1, GGML_QUANT_SIZES[qtype][1])
    with np.errstate(all="ignore"):
        return quants.dequantize(blocks, qtype).reshape(-1).astype(np.float32)


def same_bits(got, want):
    assert got.shape == want.shape
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    # Bits of a NaN depend on the order of the operands of a multiplication; everything else must be equal.
    differ = np.flatnonzero(got.view(np.uint32)[~nan] != want.view(np.uint32)[~nan])
    assert differ.size == 0, f"{differ.size} values differ, first {differ[0]}: {got[~nan][differ[0]]} != {want[~nan][differ[0]]}"


@pytest.mark.parametrize("qtype", TYPES, ids=lambda t: t.name)
def test_random_blocks(build, qtype):
    """Any bytes at all: scales may be infinite, subnormal or not a number."""
    rng = np.random.default_rng(int(qtype) + 1)
    raw = rng.integers(0, 256, 4000 * GGML_QUANT_SIZES[qtype][1], dtype=np.uint8).tobytes()
    same_bits(unpack(build, qtype, raw), expected(qtype, raw))


@pytest.mark.parametrize("qtype", TYPES, ids=lambda t: t.name)
def test_uniform_bytes(build, qtype):
    """Blocks whose bytes are all equal reach the ends of every field."""
    size = GGML_QUANT_SIZES[qtype][1]
    raw = b"".join(bytes([byte]) * size for byte in range(256))
    # one float is less than one block of others: keep whole values
    same_bits(unpack(build, qtype, raw), expected(qtype, raw))


@pytest.mark.parametrize("qtype", [T.F16, T.BF16], ids=lambda t: t.name)
def test_every_half(build, qtype):
    raw = np.arange(65536, dtype=np.uint16).tobytes()
    same_bits(unpack(build, qtype, raw), expected(qtype, raw))


def test_no_blocks(build):
    assert unpack(build, T.Q4_K, b"").size == 0
