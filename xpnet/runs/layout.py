"""The names of the files in a run folder, and of the settings in its ``config.json``."""

CONFIG, ENVIRONMENT, LOG, FRAMES = "config.json", "environment.json", "log.jsonl", "frames.bin"
RESULTS, WEIGHTS, REPORT = "results.json", "weights.npz", "report.html"
CHECKPOINTS = "checkpoints"
PICTURES = (
    "loss", "accuracy", "rmse", "network", "gradients", "activations", "boundary", "curve",
    "surface", "confusion", "mistakes", "weights",
)  # fmt: skip
# The files that are written when a training has ended.
OF_THE_END = (
    RESULTS, WEIGHTS, REPORT, *(f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")),
)  # fmt: skip
# The fields of a problem that the configuration holds: how the training was set.
SETTINGS = (
    "hidden", "activation", "loss", "optimizer", "lr", "epochs", "batch_size", "one_cycle",
)  # fmt: skip
