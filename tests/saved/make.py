"""Writes the files of a release, which every later one has to read: run it once for a format."""

import sys
from pathlib import Path

import numpy as np

import xpnet

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("helpers", "storage")]
from test_checkpoint import fit, make

HERE, FORMAT = Path(__file__).parent, xpnet.support.archive.FORMAT
inputs = np.arange(8, dtype=np.float32).reshape(2, 4) / 8

with xpnet.use_backend("numpy", reproducible=True):
    trainer = make(backend=None, lr=0.01)
    fit(trainer, [xpnet.EarlyStopping(), keeper := xpnet.Checkpoint(HERE, every_steps=10, keep=9)])
trainer.net.save(HERE / f"network-{FORMAT}.npz")
first, *others = keeper.paths
first.rename(HERE / f"checkpoint-{FORMAT}.npz")
for path in others:
    path.unlink()
with xpnet.use_backend("numpy"):
    outputs = xpnet.load(HERE / f"network-{FORMAT}.npz").predict(inputs)
np.savez(HERE / f"outputs-{FORMAT}.npz", outputs=outputs, params=trainer.net.params)
