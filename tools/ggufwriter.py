"""A small writer of GGUF v3 files: keys, tensors and simple packers. Needs numpy only.

Output depends on nothing but what is added: same calls, same bytes.
"""
import struct

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMATS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q",
            I64: "<q", F64: "<d"}

# name: (type id, values in a block, bytes of a block, general.file_type)
TYPES = {
    "f32": (0, 1, 4, 0), "f16": (1, 1, 2, 1), "q4_0": (2, 32, 18, 2), "q4_1": (3, 32, 20, 3), "q5_0": (6, 32, 22, 8),
    "q5_1": (7, 32, 24, 9), "q8_0": (8, 32, 34, 7), "q2_k": (10, 256, 84, 10), "q3_k": (11, 256, 110, 12),
    "q4_k": (12, 256, 144, 15), "q5_k": (13, 256, 176, 17), "q6_k": (14, 256, 210, 18), "iq4_nl": (20, 32, 18, 25),
    "iq4_xs": (23, 256, 136, 30), "bf16": (30, 1, 2, 32), "mxfp4": (39, 32, 17, 38),
}


def _text(s):
    raw = s.encode("utf-8") if isinstance(s, str) else bytes(s)
    return struct.pack("<Q", len(raw)) + raw


def _value(kind, v):
    return _text(v) if kind == STRING else struct.pack(_FORMATS[kind], v)


class Writer:
    def __init__(self, alignment=32):
        self.alignment = alignment
        self.keys = []  # (name, encoded type and value)
        self.tensors = []  # (name, dims with the row length first, type id, bytes)
        if alignment != 32:
            self.add("general.alignment", U32, alignment)

    def add(self, key, kind, value):
        self.keys.append((key, struct.pack("<I", kind) + _value(kind, value)))

    def add_array(self, key, kind, values):
        body = b"".join(_value(kind, v) for v in values)
        self.keys.append((key, struct.pack("<IIQ", ARRAY, kind, len(values)) + body))

    def add_tensor(self, name, array, type_name="f32"):
        """array: numpy, its last axis is a row; packed as type_name."""
        self.add_raw_tensor(name, array.shape, type_name, pack(array, type_name))

    def add_raw_tensor(self, name, shape, type_name, raw):
        type_id, block, block_bytes, _ = TYPES[type_name]
        if shape[-1] % block or len(raw) != int(np.prod(shape)) // block * block_bytes:
            raise ValueError(f"{name}: {len(raw)} bytes do not hold {shape} as {type_name}")
        self.tensors.append((name, tuple(reversed(shape)), type_id, raw))

    def write(self, path):
        directory, offset = b"", 0
        for name, dims, type_id, raw in self.tensors:
            directory += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type_id, offset)
            offset += self._padded(len(raw))
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))
        head += b"".join(_text(key) + value for key, value in self.keys) + directory
        with open(path, "wb") as f:
            f.write(head.ljust(self._padded(len(head)), b"\0"))
            for _, _, _, raw in self.tensors:
                f.write(raw.ljust(self._padded(len(raw)), b"\0"))

    def _padded(self, n):
        return -(-n // self.alignment) * self.alignment


# ---- packers ----

def _bf16(x):
    u = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def _half_bytes(x):
    return x.astype(np.float16).view(np.uint8)  # [n][1] halves -> [n][2] bytes


def _inverse(d):
    with np.errstate(divide="ignore"):
        return np.where(d == 0, 0, 1 / d)


def _nibbles(q):
    return q[:, :16] | q[:, 16:] << 4


def _q8_0(x):
    d = np.abs(x).max(axis=1, keepdims=True) / 127
    q = np.rint(x * _inverse(d)).astype(np.int8)
    return np.concatenate([_half_bytes(d), q.view(np.uint8)], axis=1)


def _q4_0(x):
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    d = largest / -8
    q = np.clip(np.rint(x * _inverse(d)) + 8, 0, 15).astype(np.uint8)
    return np.concatenate([_half_bytes(d), _nibbles(q)], axis=1)


def _q4_1(x):
    low = x.min(axis=1, keepdims=True)
    d = (x.max(axis=1, keepdims=True) - low) / 15
    q = np.clip(np.rint((x - low) * _inverse(d)), 0, 15).astype(np.uint8)
    return np.concatenate([_half_bytes(d), _half_bytes(low), _nibbles(q)], axis=1)


def pack(array, type_name):
    """The bytes of an array of floats; quantised types take their scale from the largest value of a block."""
    x = np.ascontiguousarray(array, dtype=np.float32)
    if type_name == "f32":
        return x.tobytes()
    if type_name == "f16":
        return x.astype(np.float16).tobytes()
    if type_name == "bf16":
        return _bf16(x).tobytes()
    packer = {"q8_0": _q8_0, "q4_0": _q4_0, "q4_1": _q4_1}.get(type_name)
    if not packer or x.shape[-1] % 32:
        raise ValueError(f"cannot pack rows of {x.shape[-1]} values as {type_name}")
    return packer(x.reshape(-1, 32)).tobytes()


# Where the half-width scales of a block lie, and what weights of standard deviation 1 need there.
_SCALES = {
    "q5_0": [(0, 0.108)], "q5_1": [(0, 0.108), (2, -1.68)], "q2_k": [(80, 0.107), (82, 0.16)], "q3_k": [(108, 0.024)],
    "q4_k": [(0, 0.0058), (2, 0.0435)], "q5_k": [(0, 0.0029), (2, 0.0435)], "q6_k": [(208, 0.00073)],
    "iq4_nl": [(0, 0.0138)], "iq4_xs": [(0, 0.00075)],
}


def random_blocks(rng, shape, type_name, std):
    """Raw blocks of any type: random quants under scales that give about this standard deviation. For the types that
    pack() does not know."""
    _, block, block_bytes, _ = TYPES[type_name]
    if shape[-1] % block:
        raise ValueError(f"rows of {shape[-1]} values do not fit blocks of {block} ({type_name})")
    n = int(np.prod(shape)) // block
    raw = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    if type_name == "mxfp4":  # value table of standard deviation 5.9
        raw[:, 0] = np.rint(np.log2(std / 5.9)).astype(int) + 128
    for at, scale in _SCALES.get(type_name, []):
        jitter = rng.uniform(0.8, 1.25, (n, 1))
        raw[:, at:at + 2] = _half_bytes((scale * std * jitter).astype(np.float32))
    return raw.tobytes()
