"""How long and how large a transfer may be. One frozen value, handed to every function that moves
bytes."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class TransferLimits:
    """Bounds of one transfer. Exceeding one is a typed error; none of them depends on the size of
    the machine."""

    connect_seconds: float = 5.0
    """For the name lookup, for each TCP connection and for each TLS handshake."""
    idle_seconds: float = 15.0
    """Longest silence inside a body before the connection is given up and resumed on a new one."""
    response_seconds: float = 60.0
    """Longest wait for the answer after a whole body was sent: a store may assemble a large object
    first."""
    total_seconds: float = 3600.0
    """For the whole transfer with all its retries."""
    min_bytes_per_second: int = 65536
    """Slower than this over `min_rate_window_seconds` ends the transfer: a drip never trips a
    socket timeout."""
    min_rate_window_seconds: float = 30.0
    attempts: int = 5
    """Tries without any progress in between."""
    retry_budget_seconds: float = 120.0
    """From the first of a row of failures to the last try."""
    max_input_bytes: int = 20 * GIB
    max_result_bytes: int = 256 * MIB
    """Largest earlier result that is read back, before and after gunzip: some three million
    boxes."""
    max_put_bytes: int = 5 * GIB - 5 * MIB
    """Largest single PUT. R2: 4.995 GiB, https://developers.cloudflare.com/r2/platform/limits/"""
    first_range_bytes: int = 8 * MIB
    """The first request asks for this much: its answer names size and ETag, and is all there is for
    a small file."""
    parallel_from_bytes: int = 32 * MIB
    """Smaller objects are read over one connection."""
    range_parallelism: int = 6
    """Connections of one download. A single stream to an object store is limited, several add
    up."""
    part_parallelism: int = 4
    """Connections of one multipart upload. Memory is 256 KiB for each."""
