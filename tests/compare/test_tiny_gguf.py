"""tools/make-tiny-gguf: same options, same bytes; files that the reference package reads; a vocabulary that makes sense."""
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from gguf import GGUFReader
from gguf.quants import dequantize

sys.path.insert(0, str(ROOT / "tools"))
import ggufwriter as gw  # noqa: E402

import reference  # noqa: E402


def make(path, *options):
    subprocess.run([sys.executable, ROOT / "tools" / "make-tiny-gguf", path, *options], check=True)
    return path


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma3"])
def test_same_options_same_bytes(tmp_path, arch):
    a = make(tmp_path / "a.gguf", "--arch", arch).read_bytes()
    b = make(tmp_path / "b.gguf", "--arch", arch).read_bytes()
    other = make(tmp_path / "c.gguf", "--arch", arch, "--seed", "2").read_bytes()
    assert a == b
    assert a != other and len(a) == len(other)


@pytest.mark.parametrize("type_name", sorted(gw.TYPES))
def test_every_type_gives_a_lively_model(tmp_path, type_name):
    """Weights of about the right size, and logits that are neither flat nor out of bounds."""
    path = make(tmp_path / "m.gguf", "--type", type_name, "--width", "256", "--ffn", "512")
    reader = GGUFReader(path)
    t = next(t for t in reader.tensors if t.name == "blk.0.attn_v.weight")
    assert t.tensor_type.name.lower() == type_name
    values = dequantize(t.data, t.tensor_type)
    assert values.shape == (128, 256)
    assert 0.6 < values.std() * 16 < 1.6
    assert abs(values.mean()) * 16 < 0.3
    out = reference.logits(str(path), [1, 2, 300, 4])
    assert np.isfinite(out).all()
    assert 0.5 < out.std() < 20


@pytest.mark.parametrize("type_name, step", [("bf16", 2**-8), ("f16", 2**-11), ("q8_0", 1 / 127), ("q4_0", 1 / 8), ("q4_1", 2 / 15)])
def test_packed_values_are_near(type_name, step):
    """No value is off by more than a step of its block's largest one."""
    x = np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32)
    w = gw.Writer()
    w.add_tensor("x", x, type_name)
    type_id, block, block_bytes, _ = gw.TYPES[type_name]
    raw = np.frombuffer(w.tensors[0][3], np.uint8).reshape(64, -1)
    back = dequantize(raw.view(np.float16) if type_name == "f16" else raw, type_id)
    largest = np.abs(x).reshape(-1, 32).max(axis=1, keepdims=True)
    assert (np.abs(back - x).reshape(-1, 32) <= step * largest * 1.01).all()


def test_vocabulary(tmp_path):
    reader = GGUFReader(make(tmp_path / "m.gguf"))
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    assert len(tokens) == len(set(tokens)) == len(types) == 512
    assert len(merges) > 100
    known = set(tokens)
    for merge in merges:
        left, right = merge.split(" ")
        assert left in known and right in known and left + right in known
    for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert types[tokens.index(text)] == 3
    assert tokens[reader.get_field("tokenizer.ggml.eos_token_id").contents()] == "<|im_end|>"


def test_alignment_is_kept(tmp_path):
    w = gw.Writer(alignment=128)
    w.add_tensor("a", np.arange(3, dtype=np.float32))
    w.add_tensor("b", np.arange(4, dtype=np.float32))
    w.write(tmp_path / "m.gguf")
    tensors = GGUFReader(tmp_path / "m.gguf").tensors
    assert [t.data_offset % 128 for t in tensors] == [0, 0]
    assert tensors[1].data.tolist() == [0, 1, 2, 3]


def test_scripts_that_cannot_be_told_apart_are_refused(tmp_path):
    scripts = tmp_path / "s.json"
    for text in ('{"": "same", "m": "same"}', '{"": ""}', '{"m": "no default"}', '["list"]', "{"):
        scripts.write_text(text)
        done = subprocess.run([sys.executable, ROOT / "tools" / "make-tiny-gguf", tmp_path / "m.gguf", "--script", scripts],
                              capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("make-tiny-gguf: ")


def test_pieces_of_scripts_are_unique_and_whole():
    sys.path.insert(0, str(ROOT / "tools"))
    import scripted

    texts = ["the the the the the end", "the end of the the text é漢🎉", "abc"]
    cuts = scripted.cut(texts, {b"the "})
    assert [b"".join(pieces).decode() for pieces in cuts] == texts
    every = [piece for pieces in cuts for piece in pieces]
    assert len(every) == len(set(every)) and b"the " not in every
