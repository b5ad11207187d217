"""The directory of a store: where it is, whether it can be trusted, and the files in it.

    entries/<kind>/<two digits>/<key>         entries; a leading dot marks one that is being written
    locks/<kind>/<key>                        exists while somebody holds or awaits the lock
    quarantine/<kind>.<key>                   entries that were found unfit

An executable is native code, so a directory in which somebody else could write is refused. Its owner may be the user or
root, who could change anything anyway. The directory itself may be a symbolic link, which the user made and which is
resolved once; files that are symbolic links are not opened.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import platformdirs

from .entry import BadEntry, is_name
from .faults import Fault, Faults
from .locks import Lock, acquire

_TEMPORARY = ".tmp"


def default_path() -> Path:
    """Return the store's default directory: `TPU_DYNAMO_CACHE_DIR`, else the user's cache folder.

    Raises RuntimeError for a user without a home.
    """
    chosen = os.environ.get("TPU_DYNAMO_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("tpu_dynamo", appauthor=False)


@dataclass(frozen=True)
class File:
    """A file of the store as it was listed. last_use: its modification time, in seconds."""

    path: Path
    size: int
    last_use: float

    @property
    def kind(self) -> str:
        return self.path.parent.parent.name

    @property
    def key(self) -> str:
        return self.path.name

    @property
    def temporary(self) -> bool:
        """True if this is no entry but a file that a writer has not finished."""
        return self.path.suffix == _TEMPORARY


@dataclass(frozen=True)
class Directory:
    """A directory that was found fit. writable: whether anything in it is changed."""

    root: Path
    writable: bool
    faults: Faults

    def path(self, kind: str, key: str) -> Path:
        """Return the path of an entry's file."""
        return self.root / "entries" / kind / key[:2] / key

    def prepare(self) -> bool:
        """Make the directory anew if it is gone, and say whether it was. Raises OSError when it cannot be used."""
        try:
            status = os.stat(self.root)
        except FileNotFoundError:
            _make(self.root)
            return True
        if why := _distrust(status):
            raise PermissionError(f"{self.root}: {why}")
        return False

    def write(self, path: Path, pieces: Sequence[bytes], used: float) -> None:
        """Put a file in its place as a whole, last used at `used`: readers see all of it or none. Raises OSError."""
        _make(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=_TEMPORARY, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(pieces)
                file.flush()
                # Else a crash of the machine leaves a whole name with half a file. The folder is not synced: a name
                # that is lost in a crash is only a miss.
                os.fsync(file.fileno())
                os.utime(file.fileno(), (used, used))
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def acquire(self, kind: str, key: str, timeout: float) -> Lock:
        """Acquire the lock of an entry, waiting `timeout` seconds at most. Raises as `locks.acquire` does."""
        path = self.root / "locks" / kind / key
        _make(path.parent)
        return acquire(path, timeout)

    def files(self) -> Iterator[File]:
        """Yield the entries' files and unfinished ones; what vanishes meanwhile, or is neither, is left out."""
        for kind in self._folders(self.root / "entries"):
            for shard in self._folders(kind):
                for file in self._files(shard):
                    named = is_name(file.kind, file.key) and file.path == self.path(file.kind, file.key)
                    if named or file.temporary:
                        yield file

    def lock_files(self) -> Iterator[File]:
        """Yield the locks' files."""
        for kind in self._folders(self.root / "locks"):
            yield from self._files(kind)

    def quarantined(self) -> list[File]:
        """List the files in quarantine."""
        return self._files(self.root / "quarantine")

    def quarantine(self, kind: str, key: str, bad: os.stat_result | None = None) -> None:
        """Take an entry out of use. Raises OSError.

        bad: the file that was found unfit; another one that has taken its place since is left alone. (One that takes
        it in the very moment between is quarantined too: a miss, no more.)
        """
        path = self.path(kind, key)
        if bad is None or os.path.samestat(bad, os.lstat(path)):
            _make(self.root / "quarantine")
            os.replace(path, self.root / "quarantine" / f"{kind}.{key}")

    def _folders(self, folder: Path) -> list[Path]:
        return sorted(path for path, status in self._listed(folder) if stat.S_ISDIR(status.st_mode))

    def _files(self, folder: Path) -> list[File]:
        listed = self._listed(folder)
        return [File(path, s.st_size, s.st_mtime) for path, s in listed if not stat.S_ISDIR(s.st_mode)]

    def _listed(self, folder: Path) -> list[tuple[Path, os.stat_result]]:
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
        except FileNotFoundError:
            pass
        except OSError as error:
            self.faults.count(Fault.UNREADABLE, f"{folder}: {error}")
        return found


def open_directory(path: Path | None, read_only: bool, faults: Faults) -> Directory | None:
    """Open the directory at `path`, or the default one, made if it is missing; None, a counted fault, if unfit."""
    try:
        root = _resolved(path)
        if not read_only:
            _make(root)
        status = os.stat(root)
        if why := _distrust(status):
            raise PermissionError(f"{root}: {why}")
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{root} is no directory")
    except OSError as error:
        faults.count(Fault.DIRECTORY_REFUSED, f"{error}; the store is off until that is mended or another is chosen")
        return None
    return Directory(root, not read_only and os.access(root, os.W_OK | os.X_OK, effective_ids=True), faults)


def _resolved(path: Path | None) -> Path:
    """Resolve `~` and links in the path, or in the default one. Raises OSError."""
    try:
        return (path or default_path()).expanduser().resolve()
    except RuntimeError as error:  # a circle of links, no home
        raise FileNotFoundError(f"{path or 'the default directory'}: {error}") from error


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, and BadEntry where somebody else could have written it."""
    try:
        # Without O_NONBLOCK the opening of a named pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadEntry(Fault.UNTRUSTED, "it is a symbolic link") from error
        raise
    status = os.fstat(descriptor)
    why = _distrust(status) if stat.S_ISREG(status.st_mode) else "it is no regular file"
    if why:
        os.close(descriptor)
        raise BadEntry(Fault.UNTRUSTED, why)
    return os.fdopen(descriptor, "rb")


def _distrust(status: os.stat_result) -> str | None:
    """Explain why a file or directory of this owner and mode cannot be trusted; None where it can."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to the user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _make(folder: Path) -> None:
    """Make a folder and those above it that are missing, for the user alone."""
    try:
        # makedirs would make those above with whatever the umask leaves.
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make(folder.parent)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
