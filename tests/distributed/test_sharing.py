"""Executables that ranks pass on: the bytes that the one which compiled wrote, whoever keeps or publishes them."""

import pytest

from tpu_dynamo.cache.executables import KIND, executable_key, obtain
from tpu_dynamo_runtime.store import open_store


class Compiled:
    """An executable that this process compiled."""


class Loaded:
    """One that was loaded from bytes, which XLA's CPU client cannot serialise whole."""


class Maker:
    """A compiler whose executables have bytes only where they were compiled."""

    def __init__(self):
        self.environment = {"platform": "test"}

    def compile(self, stablehlo):
        return Compiled()

    def serialise(self, executable):
        return b"whole" if isinstance(executable, Compiled) else b"without some functions"

    def deserialise(self, data):
        assert data == b"whole"
        return Loaded()


class Others:
    """The other ranks of a job, of which one made `made`."""

    def __init__(self, made=None):
        self.made, self.published = made, []

    def receive(self, key):
        return self.made

    def publish(self, key, executable):
        self.published.append(executable)

    def fail(self, key, why):
        raise AssertionError(why)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


def kept(store):
    entry = store.get(KIND, executable_key("digest", Maker().environment))
    return entry.sections["executable"]


def test_what_was_received_is_kept_as_it_came(store):
    found = obtain(store, Maker(), b"", "digest", Others(b"whole"))
    assert (found.level, type(found.executable)) == ("job", Loaded)
    assert kept(store) == b"whole"


def test_what_was_found_on_disk_is_published_as_it_lies_there(store):
    obtain(store, Maker(), b"", "digest")
    others = Others()
    assert obtain(store, Maker(), b"", "digest", others).level == "disk"
    assert others.published == [b"whole"]


@pytest.mark.parametrize("read_only", [False, True])
def test_what_was_compiled_is_published(tmp_path, read_only):
    (tmp_path / "store").mkdir(mode=0o700)
    others = Others()
    found = obtain(open_store(tmp_path / "store", read_only=read_only), Maker(), b"", "digest", others)
    assert (found.level, type(found.executable)) == (None, Compiled)
    assert others.published == [b"whole"]
