"""Messages of plain data over a pair of pipes, each with its length before it."""

from __future__ import annotations

import os
import struct

from . import plain

TYPE_CHECKING = False  # not typing's, whose import takes as long as Python's own start
if TYPE_CHECKING:
    from typing import Any

LARGEST_BYTES = 64 << 20
"""Of one message."""


class TooLarge(Exception):
    """A message of more than `LARGEST_BYTES`."""


class Channel:
    """The two ends of the pipes that one side has."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, message: bytes) -> None:
        if len(message) > LARGEST_BYTES:
            raise TooLarge(f"more than {LARGEST_BYTES >> 20} MiB")
        left = memoryview(struct.pack("<Q", len(message)) + message)
        while left:
            left = left[os.write(self.outgoing, left) :]

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError: the other side has ended.
            plain.Malformed, TooLarge: it is no plain data, or too much.
        """
        (size,) = struct.unpack("<Q", self._bytes(8))
        if size > LARGEST_BYTES:
            raise TooLarge(f"more than {LARGEST_BYTES >> 20} MiB")
        return plain.decode(self._bytes(size))

    def _bytes(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.incoming, min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
