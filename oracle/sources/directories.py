"""Folders here, over SSH and over FTP."""

from __future__ import annotations

import contextlib
import ftplib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import paramiko

from ..config import DirectorySource, read_secret
from ..errors import SourceError
from .base import Cursor, Delivery, answers, safe_name


class Listing(Protocol):
    """A folder somewhere: what lies in it, and what a file holds."""

    def files(self) -> dict[str, tuple[int, int]]:
        """Size in bytes and modification time in seconds of each file by name."""
        ...

    def read(self, name: str, most: int) -> bytes:
        """At most ``most`` + 1 bytes of a file."""
        ...

    def close(self) -> None: ...


class Directory:
    """Files of a folder; each is taken once it has stopped growing, and again when it changes. Nothing is deleted."""

    def __init__(self, access: DirectorySource):
        self.access = access

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]:
        listing = self._open()
        try:
            with answers(self.access.name):
                there = {n: seen for n, seen in listing.files().items() if fnmatchcase(n, self.access.pattern)}
            # Files that are gone are forgotten, so that the cursor does not grow for ever.
            taken = {n: seen for n, seen in cursor.get("taken", {}).items() if n in there}
            before = cursor.get("growing", {})
            new = {n: list(seen) for n, seen in there.items() if taken.get(n) != list(seen)}
            settled = int(now.timestamp()) - self.access.settle_seconds
            ready = [n for n, seen in new.items() if before.get(n) == seen or seen[1] <= settled]
            growing = {n: seen for n, seen in new.items() if n not in ready}
            unread: list[str] = []
            for name in sorted(ready):
                taken[name] = new[name]
                after = {"taken": dict(taken), "growing": growing}
                if new[name][0] > self.access.max_bytes:
                    yield Delivery(safe_name(name), None, after, refusal=self._too_big(name, new[name][0]))
                    continue
                with answers(self.access.name):
                    try:
                        data = listing.read(name, self.access.max_bytes)
                    except (FileNotFoundError, PermissionError, ftplib.error_perm):
                        # This file alone is gone or closed to us; those after it are not to wait for it.
                        del taken[name]
                        unread.append(name)
                        continue
                if len(data) > self.access.max_bytes:
                    yield Delivery(safe_name(name), None, after, refusal=self._too_big(name, len(data)))
                elif len(data) == new[name][0]:
                    yield Delivery(safe_name(name), data, after)
                else:
                    # It changed while it was read: the next look finds it again.
                    del taken[name]
            yield Delivery("", None, {"taken": taken, "growing": growing})
            if unread:
                raise SourceError(f"source {self.access.name}: may not read {', '.join(map(repr, unread[:5]))}")
        finally:
            listing.close()

    def _too_big(self, name: str, size: int) -> str:
        return f"{name}: {size} bytes or more are over this source's max_bytes of {self.access.max_bytes}; it was not fetched"

    def _open(self) -> Listing:
        with answers(self.access.name):
            match self.access.protocol:
                case "folder":
                    return LocalFolder(Path(self.access.folder))
                case "sftp":
                    return SftpFolder(self.access)
                case _:
                    return FtpFolder(self.access)


class LocalFolder:
    """A folder of this machine, as sources look at it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self.folder.iterdir():
            # Whoever empties the folder may do so at this moment.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith("."):
                    status = path.stat()
                    found[path.name] = (status.st_size, int(status.st_mtime))
        return found

    def read(self, name: str, most: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            return file.read(most + 1)

    def close(self) -> None:
        """Nothing is held."""


class SftpFolder:
    """A folder over SSH. The server must prove a host key of ``known_hosts``; an unknown one is refused."""

    def __init__(self, access: DirectorySource):
        self._client = paramiko.SSHClient()
        self._client.load_host_keys(str(access.known_hosts))
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._client.connect(
            access.host,
            port=access.port or 22,
            username=access.user,
            password=read_secret(access.password_file) if access.password_file else None,
            key_filename=str(access.key_file) if access.key_file else None,
            timeout=access.timeout_seconds,
            allow_agent=False,
            look_for_keys=False,
        )
        self._sftp = self._client.open_sftp()
        self._sftp.chdir(access.folder)

    def files(self) -> dict[str, tuple[int, int]]:
        return {
            one.filename: (int(one.st_size or 0), int(one.st_mtime or 0))
            for one in self._sftp.listdir_attr()
            if one.st_mode is not None and one.st_mode & 0o170000 == 0o100000
        }

    def read(self, name: str, most: int) -> bytes:
        with self._sftp.open(name, "rb") as file:
            file.prefetch()
            return bytes(file.read(most + 1))

    def close(self) -> None:
        self._client.close()


class FtpFolder:
    """A folder over FTP with TLS (``ftps``), or without for loggers that know no better (``ftp``)."""

    def __init__(self, access: DirectorySource):
        password = read_secret(access.password_file) if access.password_file else ""
        if access.protocol == "ftps":
            context = ssl.create_default_context(cafile=str(access.ca_file) if access.ca_file else None)
            secure = ftplib.FTP_TLS(timeout=access.timeout_seconds, context=context)
            self._ftp: ftplib.FTP = secure
        else:
            self._ftp = ftplib.FTP(timeout=access.timeout_seconds)
        self._ftp.connect(access.host, access.port or 21)
        self._ftp.login(access.user, password)
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self._ftp.prot_p()
        self._ftp.cwd(access.folder)

    def files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for name, facts in self._ftp.mlsd(facts=["type", "size", "modify"]):
            if facts.get("type") == "file":
                changed = datetime.strptime(facts["modify"][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                found[name] = (int(facts["size"]), int(changed.timestamp()))
        return found

    def read(self, name: str, most: int) -> bytes:
        parts = bytearray()

        def add(part: bytes) -> None:
            if len(parts) <= most:
                parts.extend(part)

        self._ftp.retrbinary(f"RETR {name}", add)
        return bytes(parts)

    def close(self) -> None:
        self._ftp.close()
