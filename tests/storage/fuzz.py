"""Fuzzing of everything that reads a file: only the library's own errors may come out.

``python tests/storage/fuzz.py idx --runs 10000000`` lets atheris look for inputs that lead
elsewhere. What it finds belongs into ``tests/storage/corpus/idx``, where the suite tries it again,
together with some thousands of mutations that need no atheris: `test_fuzz_corpus.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

MOST = 4096
CORPUS = Path(__file__).parent / "corpus"
Seeds = list[bytes]


class Target:
    """A reader, as a function of the bytes of a file.

    An input begins with a byte that says how the rest becomes a file: as it is, or packed in what
    a mutation would hardly get right, such as a checksum.
    """

    words: tuple[Any, ...] = ()  # that the files hold
    most = MOST  # bytes of an input

    def __init__(self) -> None:
        """Import what it reads with."""

    def __call__(self, data: bytes) -> None:
        """Read, and swallow the library's own errors."""
        from xpnet.support.errors import XpnetError

        if data:
            with suppress(XpnetError):
                self.read(data[0], data[1:])

    def read(self, mode: int, data: bytes) -> None:
        """Read a file that is made of the data."""
        raise NotImplementedError

    def seeds(self) -> Seeds:
        """Return inputs that are valid files."""
        raise NotImplementedError


class Idx(Target):
    """`xpnet.data.idx.decode_idx`; odd modes are packed with gzip."""

    def __init__(self) -> None:
        from xpnet.data.idx import decode_idx, encode_idx

        self.decode, self.encode = decode_idx, encode_idx

    def read(self, mode: int, data: bytes) -> None:
        file = BytesIO(gzip.compress(data, 0) if mode % 2 else data)
        a = self.decode(file, "file", max_bytes=2**20)
        assert a.nbytes <= 1040 * len(data)  # what deflate can do

    def seeds(self) -> Seeds:
        arrays = [np.arange(6, dtype=dtype).reshape(2, 3) for dtype in ("uint8", ">i2", ">f8")]
        files = [self.encode(a) for a in (*arrays, np.zeros((0, 5), np.uint8))]
        packed = [b"\0" + gzip.compress(file, mtime=0) for file in files]
        return [mode + file for mode in (b"\0", b"\1") for file in files] + packed


class Npz(Target):
    """`decode_archive`; odd modes are members, of which a zip is made here."""

    def __init__(self) -> None:
        from xpnet.support.archive import decode_archive

        self.decode = decode_archive

    def read(self, mode: int, data: bytes) -> None:
        file = zipped(unpacked(data)) if mode % 2 else data
        arrays, about = self.decode(BytesIO(file), "file")
        assert about["format"] <= 1
        assert sum(a.nbytes for a in arrays.values()) <= len(file)

    def seeds(self) -> Seeds:
        about = np.frombuffer(b'{"format": 1, "network": {"seed": 0}}', np.uint8)
        arrays = {"0.W": np.ones((2, 3), "<f4"), "1.mean": np.zeros((1, 3)), "t": np.array(7)}
        members = {}
        for name, a in {"about": about, **arrays}.items():
            file = BytesIO()
            np.lib.format.write_array(file, a, version=(1, 0))
            members[f"{name}.npy"] = file.getvalue()
        first = dict(list(members.items())[:1])
        return [b"\0" + zipped(first), b"\0" + zipped(members), b"\1" + packed(members)]


def packed(members: dict[str, bytes]) -> bytes:
    """Return members as one input."""
    parts = [(name.encode(), data) for name, data in members.items()]
    return b"".join(struct.pack("<BH", len(n), len(d)) + n + d for n, d in parts)


def unpacked(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the members of an input, whatever it is."""
    members, at = [], 0
    while at + 3 <= len(data):
        n, size = struct.unpack_from("<BH", data, at)
        at += 3
        members.append((data[at : at + n], data[at + n : at + n + size]))
        at += n + size
    return members


def zipped(members: Any) -> bytes:
    """Return an uncompressed zip, which is right in everything but what the members hold."""
    if isinstance(members, dict):
        members = [(name.encode(), data) for name, data in members.items()]
    body, directory = b"", b""
    for name, data in members:
        sizes = (zlib.crc32(data), len(data), len(data), len(name), 0)
        head = struct.pack("<HHHHHLLLHH", 20, 0x800, 0, 0, 33, *sizes)
        directory += b"PK\1\2\x14\3" + head + struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name
        body += b"PK\3\4" + head + name + data
    sizes = (0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + struct.pack("<4H2LH", *sizes)


class Json(Target):
    """A reader of JSON, given as text in modes 0 and 1."""

    def valid(self) -> list[Any]:
        """Return what valid files hold."""
        raise NotImplementedError

    def seeds(self) -> Seeds:
        return [b"\0" + json.dumps(value).encode() for value in self.valid()]


class Network(Json):
    """`xpnet.load` of what an archive may hold: a description, and arrays of these shapes."""

    words = (
        *("network", "arrays", "layers", "dtype", "seed", "float32", "float64", "uint64"),
        *("Sequential", "Linear", "Dropout", "BatchNorm1d", "LayerNorm", "LeakyReLU", "Softmax"),
        *("n_in", "n_out", "bias", "init", "p", "n", "eps", "momentum", "slope", "0.W", "1.mean"),
    )

    def __init__(self) -> None:
        from xpnet.backend import set_backend
        from xpnet.storage import network_file

        set_backend("numpy")
        self.load = network_file.load
        network_file.read_archive = lambda path: self.archive  # a zip would take most of the time

    def read(self, mode: int, data: bytes) -> None:
        try:
            given = json.loads(data)
            about, named = {"format": 1, "network": given["network"]}, given["arrays"]
            arrays = {name: array(*value) for name, value in named.items() if name}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        self.archive = arrays, about
        net = self.load("file")
        assert net.size <= sum(a.size for a in arrays.values())

    def valid(self) -> list[Any]:
        import xpnet

        inner = xpnet.Sequential(xpnet.Linear(3, 3, bias=False), xpnet.LayerNorm(3))
        made = [
            xpnet.Sequential(xpnet.Linear(2, 3), xpnet.ReLU(), xpnet.BatchNorm1d(3), inner),
            xpnet.Sequential(xpnet.LeakyReLU(0.1), xpnet.Dropout(0.2), dtype="float64", seed=3),
        ]
        return [
            {
                "network": net.config(),
                "arrays": {n: [a.dtype.str, a.shape] for n, a in net.state_dict().items()},
            }
            for net in made
        ]


class Training(Json):
    """`read_training` of what an archive may hold, and all that it restores."""

    words = (
        *("network", "settings", "progress", "t", "lr", "history", "callbacks", "machine"),
        *("epoch", "batch", "first_epoch", "epochs", "stop", "loss", "val_loss", "optimizer.m"),
        *("best", "best_epoch", "EarlyStopping0", "EarlyStopping1", "losses", "history.0", "1.W"),
    )

    def __init__(self) -> None:
        import xpnet
        from xpnet.storage import training_file
        from xpnet.training import state

        self.path = Path("file")
        layers = xpnet.Linear(2, 2), xpnet.Dropout(0.1), xpnet.BatchNorm1d(2)
        net = xpnet.Sequential(*layers, backend="numpy")
        self.trainer = xpnet.Trainer(net, "mse")
        self.trainer.fit(
            *np.ones((2, 4, 2)), epochs=1, callbacks=[xpnet.EarlyStopping("loss")], batch_size=2
        )
        state.machine = lambda xp, _: {"backend": xp.name}  # asking for more takes long
        training_file.write_archive = self.write
        self.trainer.save(self.path)
        training_file.read_archive = lambda path: self.archive
        self.saved, self.restore_callbacks = training_file.read_training, state.restore_callbacks

    def write(self, path: Path, arrays: Any, about: Any) -> None:
        shapes = {name: [a.dtype.str, a.shape] for name, a in arrays.items()}
        self.good = {"about": about, "arrays": shapes}

    def read(self, mode: int, data: bytes) -> None:
        try:
            given = json.loads(data)
            about = {"format": 1} | given["about"]
            arrays = {name: array(*value) for name, value in given["arrays"].items() if name}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        self.archive = arrays, about
        found = self.saved(self.path)
        self.trainer.restore(found)
        self.restore_callbacks(found, self.trainer.callbacks)

    def valid(self) -> list[Any]:
        return [self.good]


def array(dtype: Any, shape: list[int]) -> np.ndarray[Any, Any]:
    """Return zeros, if they are few."""
    a = np.broadcast_to(np.zeros((), dtype if dtype in ("<f4", "<f8", "<u8") else "<f4"), shape)
    return a.copy() if a.size <= 1000 else a[:0]


class Safetensors(Json):
    """`xpnet.exchange.safetensors.read`: from mode 2 on whole files, else headers of zeros."""

    words = (
        "dtype",
        "shape",
        "data_offsets",
        "__metadata__",
        "F32",
        "BF16",
        "BOOL",
        "F64",
        "U8",
        "xpnet_crc32",
    )

    def __init__(self) -> None:
        from xpnet.exchange.safetensors import _crc32, read

        self.decode, self.crc32 = read, _crc32

    def read(self, mode: int, data: bytes) -> None:
        if mode < 2:
            try:
                entries = json.loads(data).values()
                size = max((e["data_offsets"][1] for e in entries if "shape" in e), default=0)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
                size = 0
            body = bytes(size) if isinstance(size, int) and 0 <= size <= MOST else b""
            data = struct.pack("<Q", len(data)) + data + body
        arrays = self.decode(data, "file")
        assert sum(a.nbytes for a in arrays.values()) <= 2 * len(data)

    def valid(self) -> list[Any]:
        entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
        other = {"dtype": "BF16", "shape": [0], "data_offsets": [24, 24]}
        last = {"dtype": "U8", "shape": [], "data_offsets": [24, 25]}
        about = {"xpnet_crc32": self.crc32({"0.W": np.zeros((2, 3), "<f4")})}
        three = {"__metadata__": {"a": "b"}, "0.W": entry, "b": other, "c": last}
        return [{"0.W": entry, "__metadata__": about}, three]

    def seeds(self) -> Seeds:
        headers = super().seeds()
        sizes = zip(headers, (24, 25), strict=True)
        files = [struct.pack("<Q", len(h) - 1) + h[1:] + bytes(size) for h, size in sizes]
        return headers + [b"\2" + file for file in files]


class Config(Json):
    """`xpnet.runs.saved.read_run`, and the page of what it has read.

    Modes 1 and 2 are ``results.json`` and ``environment.json``, beside a good configuration.
    """

    good: dict[str, Any] = {  # noqa: RUF012
        **{"problem": "xor", "hidden": [8, 4], "activation": "tanh", "loss": "bce_logits"},
        **{"optimizer": "adam", "lr": 0.01, "epochs": 20, "batch_size": "full", "one_cycle": False},
        **{"dtype": "float32", "seed": 0, "samples": [4, 4], "data_dir": None, "parameters": 33},
        **{"backend": "numpy", "reproducible": False},
    }
    words = (*good, "digits", "relu", "sgd", "full", "seconds", "test_accuracy", "epoch", "loss")
    names = ("config.json", "results.json", "environment.json")

    def __init__(self) -> None:
        from xpnet.runs import reading, saved
        from xpnet.runs.report import contents, page

        self.reading, self.saved, self.texts = reading, saved, dict[str, bytes]()
        self.contents, self.page = contents, page
        reading._bytes = lambda path, limit: self.texts.get(path.name, b"")

    def read(self, mode: int, data: bytes) -> None:
        self.texts = {"config.json": json.dumps(self.good).encode()}
        self.texts[self.names[mode % len(self.names)]] = data
        self.show(self.saved.read_run(Path("folder")))

    def show(self, run: Any) -> None:
        """Make the page, without pictures, which need the data."""
        assert run.problem.epochs == run.config["epochs"]
        shown = {"config": run.config, "environment": run.environment, "results": run.results}
        log = self.contents._columns_of(run.log)
        more = {"status": self.contents.status(run), "log": log, "frames": [], "notes": []}
        self.page.page(shown | more).encode()

    def valid(self) -> list[Any]:
        parts = ("test_loss", "train_loss", "test_accuracy", "train_accuracy")
        results = {"seconds": 1.5, "epochs": 20, **dict.fromkeys(parts, 0.5)}
        return [self.good, results, {"Python": "3.12", "processors": "2"}]

    def seeds(self) -> Seeds:
        return [bytes([k]) + seed[1:] for k, seed in enumerate(super().seeds())]


class Log(Config):
    """`xpnet.runs.reading.read_log`, and the page of its rows."""

    words = ("epoch", "loss", "val_loss", "val_accuracy", 1e308, -0.0)
    most = 300  # a few lines

    def read(self, mode: int, data: bytes) -> None:
        self.texts = {"config.json": json.dumps(self.good).encode(), "log.jsonl": data}
        self.show(self.saved.read_run(Path("folder")))

    def seeds(self) -> Seeds:
        rows = [json.dumps({"epoch": k, "loss": 0.5 / k, "val_accuracy": 1.0}) for k in (1, 2)]
        return [b"\0" + rows[0].encode(), b"\0" + "\n".join(rows).encode() + b'\n{"epoch": 3, "lo']


class Frames(Target):
    """`xpnet.training.recording.read_frames`, of a network of 2 parameters in float32."""

    def __init__(self) -> None:
        import xpnet
        from xpnet.training import recording

        self.recording = recording
        self.trainer = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(1, 1), backend="numpy"), "mse")
        recording.read_bytes = lambda path, limit, follow: self.data

    def read(self, mode: int, data: bytes) -> None:
        self.data = data
        recorder = self.recording.read_frames(Path("frames.bin"), self.trainer)
        for k in range(len(recorder.epochs)):
            assert np.isfinite(recorder.network(k).params).all()

    def seeds(self) -> Seeds:
        frames = [struct.pack("<dff", k, 0.5, -0.25 * k) for k in range(3)]
        return [b"\0" + frames[0], b"\0" + b"".join(frames)]


TARGETS: dict[str, Callable[[], Target]] = {
    "idx": Idx,
    "npz": Npz,
    "network": Network,
    "training": Training,
    "safetensors": Safetensors,
    "config": Config,
    "log": Log,
    "frames": Frames,
}


# ---- mutations ---------------------------------------------------------------------------------


NUMBERS = (0, 1, -1, 2, 3, 8, 255, 2**31, 2**32, 2**53, 2**63, 2**64, 10**400, 0.5, 1e308, -1e-320)
WORDS = (None, True, False, "", "é\ud800", [], {}, [[]], [1, 2], "x" * 300)


def mutated(data: bytes, random: Random, words: tuple[Any, ...] = ()) -> bytes:
    """Return something like it: other bytes, or another value in its JSON."""
    if words and random.random() < 0.7:
        lines = data[1:].split(b"\n")
        k = random.randrange(len(lines))
        with suppress(ValueError, RecursionError):
            lines[k] = json.dumps(changed(json.loads(lines[k]), random, words)).encode()
            return data[:1] + b"\n".join(lines)
    out = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at, size = random.randrange(len(out) + 1), random.choice((1, 1, 2, 4, 8))
        piece = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
        out[at : at + random.choice((0, size, size, 3 * size))] = random.choice((b"", piece, piece))
    return bytes(out)


def changed(value: Any, random: Random, words: tuple[Any, ...]) -> Any:
    """Return a JSON value with another one somewhere in it."""
    inside = isinstance(value, list | dict) and value and random.random() < 0.8
    if not inside:
        if isinstance(value, int | float) and random.random() < 0.3:
            return value + random.choice((-1, 1))
        return random.choice((*NUMBERS, *WORDS, *words))
    if isinstance(value, list):
        k = random.randrange(len(value))
        how = random.random()
        if how < 0.1:
            return value[:k] + value[k + 1 :]
        if how < 0.2:
            return value[: k + 1] + value[k:]
        return [*value[:k], changed(value[k], random, words), *value[k + 1 :]]
    name, how = random.choice(list(value)), random.random()
    if how < 0.1:
        return {k: v for k, v in value.items() if k != name}
    if how < 0.25:
        return value | {str(random.choice((*words, "x"))): random.choice(list(value.values()))}
    return value | {name: changed(value[name], random, words)}


def mutations(target: Target, n: int, seed: int = 0) -> Iterator[bytes]:
    """Give inputs that are the same on every machine."""
    random, pool = Random(seed), target.seeds()
    for _ in range(n):
        data = random.choice(pool)
        for _ in range(random.randint(1, 4)):
            data = mutated(data, random, target.words)
        yield data[: target.most] or b"\0"


# ---- the command -------------------------------------------------------------------------------


def main() -> None:
    """Run atheris on one target."""
    import atheris

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--corpus", type=Path, help="a folder to keep what reaches new code in")
    options = parser.parse_args()
    logging.disable()  # of warnings that bits may differ
    with atheris.instrument_imports(include=["xpnet"]):
        target = TARGETS[options.target]()
    corpus = options.corpus or Path(tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    known = [path.read_bytes() for path in (CORPUS / options.target).glob("*")]
    for k, seed in enumerate([*target.seeds(), *known]):
        (corpus / f"seed-{k}").write_bytes(seed)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return mutated(data, random, target.words)[:size]
        found: bytes = atheris.Mutate(data, size)
        return found

    limits = {"runs": options.runs, "max_len": target.most, "timeout": 10, "rss_limit_mb": 1024}
    flags = [f"-{name}={value}" for name, value in limits.items()]
    structured = {"custom_mutator": mutate} if target.words else {}
    atheris.Setup([sys.argv[0], str(corpus), *flags, "-print_final_stats=1"], target, **structured)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
