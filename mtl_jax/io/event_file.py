"""Event files of scalars for TensorBoard, written without TensorBoard or TensorFlow.

A file is a sequence of records with checksums, each a message `Event` in Protobuf's encoding.
Source: TensorFlow's core/lib/io/record_writer.cc, core/util/event.proto and
core/framework/summary.proto.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # Protobuf's wire types


class EventFile:
    """A new event file in a folder. Events are in the file when `write` returns."""

    def __init__(self, folder: Path, step: int):
        """TensorBoard discards the events of earlier files from `step` on."""
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        self._add(_field(3, _BYTES, _sized(b"brain.Event:2")))
        start = _field(1, _VARINT, _varint(1))  # SessionLog.START
        self._add(_field(2, _VARINT, _varint(step)) + _field(7, _BYTES, _sized(start)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of a step by name."""
        scalars = [
            _field(1, _BYTES, _sized(name.encode())) + _field(2, _FLOAT, _float32(value))
            for name, value in values.items()
        ]
        summary = b"".join(_field(1, _BYTES, _sized(scalar)) for scalar in scalars)
        self._add(_field(2, _VARINT, _varint(step)) + _field(5, _BYTES, _sized(summary)))

    def _add(self, message: bytes) -> None:
        """Append an Event with the current time."""
        data = _field(1, _DOUBLE, struct.pack("<d", time.time())) + message
        size = struct.pack("<Q", len(data))
        with self._path.open("ab") as file:
            file.write(size + _checksum(size) + data + _checksum(data))


def _float32(value: float) -> bytes:
    with np.errstate(over="ignore"):  # infinite beyond the range
        return np.float64(value).astype("<f4").tobytes()


def _field(number: int, wire_type: int, value: bytes) -> bytes:
    return _varint(number << 3 | wire_type) + value


def _sized(value: bytes) -> bytes:
    return _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Return 7 bits in each byte, the lowest first; the highest bit says that more follow."""
    low = []
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*low, value])


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of TensorFlow's records."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_remainder(byte) for byte in range(256)]
