"""Files that come packed: gzip, and ZIP with one file in it. Nothing is written to disk and no name in it is used."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from ..errors import RefusedInput

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_CHUNK = 1 << 18
_END_OF_DIRECTORY = struct.Struct("<4s4H2LH")
#: A ZIP's directory entry is 46 bytes and a name; this leaves room for long names and comments.
_ENTRY_BYTES = 1 << 10


def is_packed(data: bytes) -> bool:
    return data.startswith((GZIP, *ZIP))


def unpack(data: bytes, file_name: str, max_bytes: int) -> bytes:
    """What a gzip or ZIP file holds; other bytes as they are.

    Raises RefusedInput for more than ``max_bytes`` (counted while unpacking, whatever the file says of itself), a ZIP
    with none or several files, one within another, a name that points elsewhere, a link, a password.
    """
    _within(len(data), file_name, max_bytes)
    if data.startswith(GZIP):
        plain = _gunzip(data, file_name, max_bytes)
    elif data.startswith(ZIP):
        plain = _unzip(data, file_name, max_bytes)
    else:
        return data
    if is_packed(plain):
        raise RefusedInput("a packed file holds another one", file=file_name, expected="one file, packed once")
    return plain


def open_zip(data: bytes, file_name: str, max_bytes: int, max_entries: int) -> zipfile.ZipFile:
    """A ZIP whose directory is sound: its entries are few, plain, inside it and together within ``max_bytes``."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - 65_557))
    if end < 0 or len(data) - end < _END_OF_DIRECTORY.size:
        raise RefusedInput("the ZIP has no directory at its end", file=file_name, expected="a whole ZIP file")
    _, _, _, _, entries, directory_bytes, _, _ = _END_OF_DIRECTORY.unpack_from(data, end)
    # Looked at before the directory is read: reading a million entries takes seconds and half a gigabyte.
    if entries > max_entries or directory_bytes > max_entries * _ENTRY_BYTES:
        raise RefusedInput(
            f"the ZIP has {entries} entries in {directory_bytes} bytes of directory",
            file=file_name,
            expected=f"at most {max_entries}",
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as fault:
        raise RefusedInput(f"the ZIP is damaged: {fault}", file=file_name, expected="a whole ZIP file") from None
    for info in archive.infolist():
        _check_entry(info, file_name)
    _within(sum(info.file_size for info in archive.infolist()), file_name, max_bytes)
    return archive


def _within(size: int, file_name: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise RefusedInput(
            "the file is too large, packed or unpacked", file=file_name, expected=f"at most {max_bytes} bytes"
        )


def _gunzip(data: bytes, file_name: str, max_bytes: int) -> bytes:
    out = bytearray()
    rest = data
    try:
        while rest:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                piece = member.decompress(rest, _CHUNK)
                out += piece
                _within(len(out), file_name, max_bytes)
                rest = member.unconsumed_tail if not member.eof else member.unused_data
                if not member.eof and not piece and not rest:
                    raise RefusedInput("the gzip file ends early", file=file_name, expected="a whole gzip file")
    except zlib.error as fault:
        raise RefusedInput(f"the gzip file is damaged: {fault}", file=file_name, expected="a whole gzip file") from None
    return bytes(out)


def _unzip(data: bytes, file_name: str, max_bytes: int) -> bytes:
    with open_zip(data, file_name, max_bytes, max_entries=1) as archive:
        if len(archive.infolist()) != 1:
            raise RefusedInput("the ZIP is empty", file=file_name, expected="exactly one file in it")
        return read_entry(archive, archive.infolist()[0], file_name, max_bytes)


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file_name: str, max_bytes: int) -> bytes:
    out = bytearray()
    try:
        with archive.open(info) as entry:
            while piece := entry.read(_CHUNK):
                out += piece
                _within(len(out), file_name, max_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as fault:
        raise RefusedInput(f"the ZIP is damaged: {fault}", file=file_name, expected="a whole ZIP file") from None
    return bytes(out)


def _check_entry(info: zipfile.ZipInfo, file_name: str) -> None:
    name = info.orig_filename
    kind = info.external_attr >> 16 & 0o170000
    fault = None
    if "\0" in name or "\\" in name or name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        fault = "points outside of it"
    elif info.is_dir() or kind not in (0, 0o100000):
        fault = "is no plain file"
    elif info.flag_bits & 0x1:
        fault = "has a password"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fault = "is packed by a rare method"
    if fault:
        raise RefusedInput(
            f"an entry of the ZIP {fault}", file=file_name, field=repr(name[:80]), expected="a plain file, deflated"
        )
