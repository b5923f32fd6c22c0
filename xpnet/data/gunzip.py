"""Gunzip: the bytes of a gzip file, with bounds on what a small file can cost."""

from __future__ import annotations

import zlib
from typing import BinaryIO

PIECE = 2**13  # bytes that are read from the file at once: what follows a member is copied
MOST_MEMBERS = 2**17  # gzip files in one; bgzip makes one of each 64 KiB, so 8 GiB are possible
GZIP = 31  # zlib's word for a gzip header and checksum


class Gunzip:
    """Reads what a gzip file of one or more members holds.

    A header costs what its bytes cost, and the number of members has a limit: with Python's own
    `gzip`, a long name or a million empty members take half a minute.

    Parameters
    ----------
    file : file
        An open binary file at the beginning of the first member.

    Raises
    ------
    zlib.error, EOFError
        By `read`: the bytes are damaged, end too early, or have too many members.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._waiting, self._ended = file, b"", False
        self._members, self._member = 1, zlib.decompressobj(GZIP)

    def read(self, n: int) -> bytes:
        """Return n bytes, fewer only at the end."""
        data = bytearray()
        while len(data) < n and not self._ended:
            data += self._some(n - len(data))
        return bytes(data)

    def _some(self, most: int) -> bytes:
        """Return some bytes, perhaps none."""
        if self._member.eof:
            self._begin_member()
            return b""
        packed = self._waiting or self._file.read(PIECE)
        piece = self._member.decompress(packed, most)
        self._waiting = self._member.unconsumed_tail
        if not (packed or piece or self._member.eof):
            raise EOFError("the file ends inside of its compressed data")
        return piece

    def _begin_member(self) -> None:
        """Go to the next member; zeros may stand between two, and after the last."""
        rest = self._member.unused_data
        while not rest.lstrip(b"\0"):
            rest = self._file.read(PIECE)
            if not rest:
                self._ended = True
                return
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise zlib.error(f"more than {MOST_MEMBERS} gzip members")
        self._member, self._waiting = zlib.decompressobj(GZIP), rest.lstrip(b"\0")
