#!/usr/bin/env python3
"""Logits of a GGUF model by a plain numpy forward pass: the yardstick for the engine. Slow on purpose, without a KV cache.

    reference.py MODEL.gguf 1,2,3 [-o OUT.npy]     logits(path, ids) -> float64 [len(ids)][n_vocab]

Architectures: llama, qwen2, gemma3. Weights are unpacked by the Python package gguf; everything is computed in double
precision (dtype=np.float32 for models that do not fit). RoPE: NORM (adjacent pairs) for llama, NEOX (halves) for the
others; scaling none, linear, YaRN (Peng et al. 2023, with ggml's rounding of the ramp), frequency factors.
"""
import argparse

import numpy as np
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize


class Model:
    def __init__(self, path, dtype=np.float64, kv_dtype=None):
        self.reader, self.dtype = GGUFReader(path), dtype
        self.kv_dtype = kv_dtype or dtype
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.arch = self.value("general.architecture")
        if self.arch not in ("llama", "qwen2", "gemma3"):
            raise ValueError(f"architecture {self.arch} is not known here")
        self.width = self.key("embedding_length")
        self.layers = self.key("block_count")
        self.heads = self.key("attention.head_count")
        self.kv_heads = self.key("attention.head_count_kv", self.heads)
        self.head_dim = self.key("attention.key_length", self.width // self.heads)
        self.epsilon = self.key("attention.layer_norm_rms_epsilon")
        self.rotary = self.key("rope.dimension_count", self.head_dim)
        self.window = self.key("attention.sliding_window", 0) if self.arch == "gemma3" else 0
        self.softcap = self.key("final_logit_softcapping", 0) if self.arch == "gemma3" else 0

    def value(self, name, default=None):
        field = self.reader.get_field(name)
        return default if field is None else field.contents()

    def key(self, name, default=None):
        v = self.value(f"{self.arch}.{name}", default)
        if v is None:
            raise ValueError(f"key {self.arch}.{name} is missing")
        return v

    def get(self, name):
        """A tensor as [rows][row length], or None."""
        t: ReaderTensor = self.tensors.get(name)
        return None if t is None else dequantize(t.data, t.tensor_type).astype(self.dtype)

    def is_local(self, layer):
        if not self.window:
            return False
        pattern = self.key("attention.sliding_window_pattern", 6)
        if isinstance(pattern, list):
            return bool(pattern[layer])
        return layer % pattern < pattern - 1

    def attention_scale(self):
        if self.arch == "gemma3" and self.layers == 62:  # the 27B model
            return (self.width // self.heads) ** -0.5
        return self.head_dim ** -0.5


def rope_angles(m, n, local):
    """cos and sin of [n positions][rotary / 2], times the YaRN attention factor."""
    base = m.key("rope.freq_base", 10000.0)
    scaling = m.key("rope.scaling.type", "linear")
    factor = m.key("rope.scaling.factor", 0.0) or 1.0
    magnitude = m.key("rope.scaling.attn_factor", 1.0)
    if scaling == "none":
        factor = 1.0
    if local:
        base, factor = m.key("rope.freq_base_swa", 10000.0), 1.0
    half = m.rotary // 2
    frequency = base ** (-2.0 * np.arange(half) / m.rotary)
    freq_factors = m.get("rope_freqs.weight") if m.arch == "llama" else None
    if scaling == "longrope" and m.arch == "llama":  # one choice for all positions, by the trained context
        long = m.key("context_length") > m.key("rope.scaling.original_context_length", m.key("context_length"))
        freq_factors = m.get(f"rope_factors_{'long' if long else 'short'}.weight")
    if freq_factors is not None:
        frequency = frequency / freq_factors.reshape(-1)[:half]
    scaled = frequency / factor
    if scaling == "yarn":
        original = m.key("rope.scaling.original_context_length", m.key("context_length"))
        # The dimension that turns r times over the original context.
        turns = [m.rotary * np.log(original / (r * 2 * np.pi)) / (2 * np.log(base)) for r in (
            m.key("rope.scaling.yarn_beta_fast", 32.0), m.key("rope.scaling.yarn_beta_slow", 1.0))]
        low, high = max(0.0, np.floor(turns[0])), min(m.rotary - 1.0, np.ceil(turns[1]))
        keep = 1 - np.clip((np.arange(half) - low) / max(0.001, high - low), 0, 1)
        scaled = scaled * (1 - keep) + frequency * keep
        magnitude *= 1 + 0.1 * np.log(factor)
    angle = np.arange(n)[:, None] * scaled[None, :]
    return (np.cos(angle) * magnitude).astype(m.dtype), (np.sin(angle) * magnitude).astype(m.dtype)


def rotate(x, cos, sin, adjacent):
    """x: [n][heads][head_dim]; the first 2 * half values of each head turn."""
    half = cos.shape[1]
    out = x.copy()
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if adjacent else (slice(0, half), slice(half, 2 * half))
    a, b, c, s = x[..., first], x[..., second], cos[:, None, :], sin[:, None, :]
    out[..., first], out[..., second] = a * c - b * s, a * s + b * c
    return out


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * weight.reshape(-1)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * x * (1 + 0.044715 * x * x)))


def attention(m, x, layer, angles):
    n, name = len(x), f"blk.{layer}."

    def project(part, heads):
        y = x @ m.get(f"{name}{part}.weight").T
        bias = m.get(f"{name}{part}.bias")
        return (y if bias is None else y + bias.reshape(-1)).reshape(n, heads, m.head_dim)

    q, k, v = project("attn_q", m.heads), project("attn_k", m.kv_heads), project("attn_v", m.kv_heads)
    if m.arch == "gemma3":
        q = rms_norm(q, m.get(name + "attn_q_norm.weight"), m.epsilon)
        k = rms_norm(k, m.get(name + "attn_k_norm.weight"), m.epsilon)
    local = m.is_local(layer)
    cos, sin = angles[local]
    adjacent = m.arch == "llama"
    q, k = rotate(q, cos, sin, adjacent), rotate(k, cos, sin, adjacent)
    k, v = k.astype(m.kv_dtype).astype(m.dtype), v.astype(m.kv_dtype).astype(m.dtype)
    group = m.heads // m.kv_heads
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("ihd,jhd->hij", q, k) * m.attention_scale()
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    hidden = (j > i) | ((i - j >= m.window) if local else False)
    scores = np.where(hidden, -np.inf, scores)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hij,jhd->ihd", scores, v).reshape(n, -1)
    y = mixed @ m.get(name + "attn_output.weight").T
    bias = m.get(name + "attn_output.bias")
    return y if bias is None else y + bias.reshape(-1)


def experts(m, x, name):
    """Softmax over all experts, the best of a row with their weights renormalised."""
    used = m.key("expert_used_count")
    route = x @ m.get(name + "ffn_gate_inp.weight").T
    route = np.exp(route - route.max(axis=-1, keepdims=True))
    route /= route.sum(axis=-1, keepdims=True)
    best = np.argsort(-route, axis=-1, kind="stable")[:, :used]
    weight = np.take_along_axis(route, best, axis=-1)
    weight /= np.maximum(weight.sum(axis=-1, keepdims=True), 2.0 ** -14)
    gate, up, down = (m.get(f"{name}ffn_{part}_exps.weight") for part in ("gate", "up", "down"))
    out = np.zeros_like(x)
    for row in range(len(x)):
        for i, w in zip(best[row], weight[row]):
            out[row] += w * (down[i] @ (silu(gate[i] @ x[row]) * (up[i] @ x[row])))
    return out


def feed_forward(m, x, layer):
    name = f"blk.{layer}."
    if m.get(name + "ffn_gate_inp.weight") is not None:
        return experts(m, x, name)
    gate, up = x @ m.get(name + "ffn_gate.weight").T, x @ m.get(name + "ffn_up.weight").T
    gate = gelu(gate) if m.arch == "gemma3" else silu(gate)
    return (gate * up) @ m.get(name + "ffn_down.weight").T


def logits(path, ids, dtype=np.float64, kv_dtype=None):
    """kv_dtype: keys and values are rounded to it, as a KV cache of that type does."""
    m = Model(path, dtype, kv_dtype)
    embedding = m.get("token_embd.weight")
    x = embedding[np.asarray(ids)]
    if m.arch == "gemma3":
        x = x * np.float32(np.sqrt(np.float32(m.width))).astype(dtype)
    angles = {local: rope_angles(m, len(ids), local) for local in (False, True)}
    for layer in range(m.layers):
        name = f"blk.{layer}."
        y = attention(m, rms_norm(x, m.get(name + "attn_norm.weight"), m.epsilon), layer, angles)
        if m.arch == "gemma3":
            y = rms_norm(y, m.get(name + "post_attention_norm.weight"), m.epsilon)
        x = x + y
        y = feed_forward(m, rms_norm(x, m.get(name + "ffn_norm.weight"), m.epsilon), layer)
        if m.arch == "gemma3":
            y = rms_norm(y, m.get(name + "post_ffw_norm.weight"), m.epsilon)
        x = x + y
    x = rms_norm(x, m.get("output_norm.weight"), m.epsilon)
    output = m.get("output.weight")
    out = x @ (embedding if output is None else output).T
    return m.softcap * np.tanh(out / m.softcap) if m.softcap else out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("ids", help="token ids, separated by commas")
    p.add_argument("-o", "--output", help="write a .npy file instead of text")
    p.add_argument("--float32", action="store_true")
    opt = p.parse_args()
    out = logits(opt.model, [int(i) for i in opt.ids.split(",")], np.float32 if opt.float32 else np.float64)
    if opt.output:
        np.save(opt.output, out)
        return
    for row in out:
        print(" ".join(f"{v:.9g}" for v in row))


if __name__ == "__main__":
    main()
