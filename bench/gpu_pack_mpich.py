"""Make a small archive of MPICH's wheel: ``python bench/gpu_pack_mpich.py WHEEL ARCHIVE``.

It has bin and lib, with what mpiexec starts and libmpi loads; no headers, no second copies, and
nothing for networks that one machine does not have.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

KEPT = (
    "bin/mpiexec", "bin/hydra_pmi_proxy", "lib/libmpi.so.12",
    "lib/mpich/libfabric.so.1", "lib/mpich/libuc",
)  # fmt: skip
LEFT_OUT = ("bin/mpiexec.",)


def small(wheel: Path, archive: Path) -> None:
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as target,
    ):
        for name in source.namelist():
            _, found, inner = name.partition(".data/data/")
            if found and inner.startswith(KEPT) and not inner.startswith(LEFT_OUT):
                target.writestr(inner, source.read(name))


if __name__ == "__main__":
    small(Path(sys.argv[1]), Path(sys.argv[2]))
