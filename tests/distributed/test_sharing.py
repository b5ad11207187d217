"""Executables that ranks pass on: the bytes that the one which compiled wrote, whoever keeps or publishes them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tpu_dynamo.cache.executables import KIND, executable_key, obtain
from tpu_dynamo.distributed.link import Link
from tpu_dynamo.distributed.sharing import CompiledElsewhereFailed, Sharing
from tpu_dynamo_runtime import Job
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
        self.made, self.published, self.told = made, [], []

    def receive(self, key):
        return self.made

    def publish(self, key, executable):
        self.published.append(executable)

    def fail(self, key, why):
        self.told.append(why)


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


class Values:
    """The values of a job whose ranks are threads of one process."""

    def __init__(self):
        self.changed, self.written = threading.Condition(), {}

    def of(self, rank):
        return Connection(self, Job(rank, 3, "", 0))


class Connection(Link):
    """One rank's connection to values."""

    def __init__(self, values, job):
        self.job, self._values = job, values

    def put(self, name, value):
        with self._values.changed:
            self._values.written[name] = value
            self._values.changed.notify_all()

    def claim(self, name):
        with self._values.changed:
            return int(self._values.written.setdefault(name, str(self.job.rank).encode()))

    def look(self, name):
        return self._values.written.get(name)

    def wait(self, name, seconds, vain=lambda: False):
        with self._values.changed:
            self._values.changed.wait_for(lambda: name in self._values.written or vain(), 10)
        return self.look(name)


def compile_in_order(sharing, keys, compiled, span=()):
    """Load programs as one rank does; each is compiled by the rank that is to."""
    rank = sharing._link.job.rank
    for key in keys:
        executable = sharing.receive(key, span)
        if executable is None:
            compiled.append((key, rank))
            sharing.publish(key, span, executable := f"{key} of {rank}".encode())
        assert executable == f"{key} of {dict(compiled)[key]}".encode()


def on_ranks(function, arguments):
    with ThreadPoolExecutor(len(arguments)) as pool:
        for future in [pool.submit(function, *each) for each in arguments]:
            future.result(20)


def test_ranks_in_any_order_and_with_programs_of_their_own_compile_each_key_once():
    values, compiled = Values(), []
    orders = [["a", "b", "c", "own 0"], ["c", "own 1", "b", "a"], ["b", "c", "a"]]
    on_ranks(compile_in_order, [(Sharing(values.of(i)), keys, compiled) for i, keys in enumerate(orders)])
    assert sorted(key for key, _ in compiled) == ["a", "b", "c", "own 0", "own 1"]


def test_a_program_that_ranks_run_together_is_compiled_by_the_first_of_them():
    compiled = []
    values = Values()
    on_ranks(compile_in_order, [(Sharing(values.of(i)), ["a"], compiled, (0, 1, 2)) for i in (2, 1, 0)])
    assert compiled == [("a", 0)]


def test_what_was_on_disk_goes_to_the_ranks_that_wait_for_the_first_alone():
    values = Values()
    lead = Sharing(values.of(0))
    lead.publish("local", (), b"kept")
    assert not values.written
    lead.publish("joint", (0, 1), b"kept" * 1_000_000)
    assert Sharing(values.of(1)).receive("joint", (0, 1)) == b"kept" * 1_000_000
    assert max(map(len, values.written.values())) <= 1 << 20  # larger messages hold up heartbeats


def test_a_rank_that_cannot_compile_or_pass_on_says_so():
    values = Values()
    first, second = Sharing(values.of(0)), Sharing(values.of(1))
    for key in ("bad", "unwritable", "left"):
        assert first.receive(key, ()) is None
    first.fail("bad", (), "too large")
    first.publish("unwritable", (), None)
    with pytest.raises(CompiledElsewhereFailed, match=r"rank 0 did not compile .*: too large"):
        second.receive("bad", ())
    assert second.receive("unwritable", ()) is None
    values.of(0).put("tpu_dynamo/left/0", b"")
    with pytest.raises(CompiledElsewhereFailed, match="its process has ended"):
        second.receive("left", ())


def test_what_another_rank_made_and_this_machine_refuses_is_compiled_here(store):
    class Refusing(Maker):
        def deserialise(self, data):
            raise RuntimeError("made for another machine")

    found = obtain(store, Refusing(), b"", "digest", Others(b"whole"))
    assert (found.level, type(found.executable)) == (None, Compiled)


def test_an_error_of_any_kind_while_compiling_is_told(store):
    class Failing(Maker):
        def compile(self, stablehlo):
            raise ValueError("no such flag")

    others = Others()
    with pytest.raises(ValueError, match="no such flag"):
        obtain(store, Failing(), b"", "digest", others)
    assert others.told == ["no such flag"]
