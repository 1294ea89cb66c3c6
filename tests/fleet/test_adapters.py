"""Adapters in the fleet: what names them, and what becomes of those that come and go at run time."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from app.catalog import AdapterSpec, ModelSpec
from app.channel.messages import DropAdapter, Load
from app.errors import MAX_MESSAGE, InvalidInput, NotServed
from app.fleet.directory import Directory
from app.fleet.fleet import MAX_ADAPTERS
from tests.fleet.fakes import House, settle, spec_of

SQL, POET = AdapterSpec(id="sql", path="/sql"), AdapterSpec(id="poet", path="acme/poet")
NEW = AdapterSpec(id="new", path="/new")


def directory() -> Directory:
    specs = [
        spec_of("base", aliases=("b",), adapters=(SQL, POET)),
        spec_of("base:sql:7b"),
        spec_of("qwen:7b", adapters=(AdapterSpec(id="a:b", path="/ab"),)),
    ]
    return Directory(specs)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("base", ("base", None)),
        ("sql", ("base", "sql")),
        ("base:poet", ("base", "poet")),
        ("b:poet", ("base", "poet")),
        ("base:sql:7b", ("base:sql:7b", None)),
        ("qwen:7b", ("qwen:7b", None)),
        ("qwen:7b:a:b", ("qwen:7b", "a:b")),
    ],
)
def test_colon_separates_only_a_declared_adapter(name: str, means: tuple[str, str | None]) -> None:
    """Ids may hold colons; an id goes before all."""
    spec = directory().get(name)
    assert (spec.id, spec.adapter and spec.adapter.id) == means
    assert directory().get(spec.name) == spec


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("base:nobody", '"base" has no adapter "nobody"; there is sql, poet.'),
        ("base:sql:8b", '"base" has no adapter "sql:8b"'),
        ("nobody:sql", 'no model "nobody:sql" here; there is base, sql, poet, base:sql:7b, qwen:7b, a:b'),
        ("base:", 'has no adapter ""'),
        (":sql", 'no model ":sql"'),
    ],
)
def test_unknown_name_is_told_what_there_is(name: str, says: str) -> None:
    with pytest.raises(NotServed, match=says):
        directory().get(name)


def adapters_of(spec: ModelSpec) -> list[tuple[str, str]]:
    return [(one.id, one.path) for one in spec.adapters]


async def loading(house: House, adapter: AdapterSpec = NEW, *, in_place: bool = False) -> asyncio.Task[None]:
    call = asyncio.create_task(house.fleet.load_adapter("a", adapter, in_place=in_place))
    await settle()
    return call


async def test_adapter_is_known_once_a_worker_has_it() -> None:
    """Not before; then also to workers that come later."""
    async with House() as house:
        call = await loading(house)
        worker = house.launcher.of("a")
        (submit,) = worker.jobs.values()
        assert submit.adapter is not None and (submit.adapter.id, submit.task) == ("new", "load-adapter")
        with pytest.raises(NotServed):
            house.fleet.get("a:new")
        worker.answer()
        await call
        assert adapters_of(house.fleet.get("a:new")) == [("new", "/new")]
        worker.die(-9)
        await house.advance(1)
        load = next(one for one in house.launcher.of("a").received if isinstance(one, Load))
        assert [one.id for one in msgspec.convert(load.spec, ModelSpec).adapters] == ["new"]


async def test_adapter_that_cannot_be_loaded_is_not_known() -> None:
    """The worker forgets it as well, in case it came that far."""
    async with House() as house:
        call = await loading(house)
        worker = house.launcher.of("a")
        worker.refuse(next(iter(worker.jobs)))
        with pytest.raises(InvalidInput, match="no"):
            await call
        assert house.fleet.get("a").adapters == ()
        assert [one.adapter.id for one in worker.received if isinstance(one, DropAdapter)] == ["new"]


async def test_one_takes_the_place_of_another() -> None:
    """If that is allowed; the two are never taken for each other."""
    async with House(spec_of("a", adapters=(SQL,)), answers=True) as house:
        other = AdapterSpec(id="sql", path="/other")
        with pytest.raises(InvalidInput, match="loaded already"):
            await (await loading(house, other))
        await (await loading(house, other, in_place=True))
        assert adapters_of(house.fleet.get("a")) == [("sql", "/other")]
        assert house.fleet.get("sql").adapter != SQL and house.fleet.get("sql").adapters[0].key != SQL.key
        dropped = [one.adapter for one in house.launcher.of("a").received if isinstance(one, DropAdapter)]
        assert dropped == [SQL]


async def test_two_of_one_name_at_once_are_one() -> None:
    """The first that is loaded has the name."""
    async with House() as house:
        first, second = await loading(house), await loading(house, AdapterSpec(id="new", path="/second"))
        house.launcher.of("a").answer()
        await first
        with pytest.raises(InvalidInput, match="loaded already"):
            await second
        assert adapters_of(house.fleet.get("a")) == [("new", "/new")]


@pytest.mark.parametrize("name", ["a", "b", "sql", "b:sql", "7b"])
async def test_name_of_something_else_is_refused(name: str) -> None:
    async with House(spec_of("a"), spec_of("b", adapters=(SQL,)), spec_of("a:7b")) as house:
        with pytest.raises(InvalidInput, match="something else"):
            await house.fleet.load_adapter("a", AdapterSpec(id=name, path="/x"), in_place=True)


async def test_memory_is_not_filled_with_adapters() -> None:
    """There is a limit; one in the place of another is none more."""
    full = tuple(AdapterSpec(id=f"{number}", path="/x") for number in range(MAX_ADAPTERS))
    async with House(spec_of("a", adapters=full), answers=True) as house:
        with pytest.raises(InvalidInput, match="unload one"):
            await (await loading(house))
        await (await loading(house, AdapterSpec(id="7", path="/y"), in_place=True))


async def test_forgotten_adapter_is_not_asked_for_any_more() -> None:
    """What had it already goes on; the workers are told."""
    async with House(spec_of("a", adapters=(SQL, POET))) as house:
        call = await house.ask(adapter=SQL)
        house.fleet.unload_adapter(house.fleet.get("sql"))
        with pytest.raises(NotServed, match="there is poet"):
            house.fleet.get("a:sql")
        worker = house.launcher.of("a")
        assert [one.adapter for one in worker.received if isinstance(one, DropAdapter)] == [SQL]
        worker.answer()
        assert (await call).outputs


async def test_resolving_keeps_what_came_meanwhile() -> None:
    """The entry's tasks are found out while its adapters change."""
    found = asyncio.get_running_loop().create_future()

    async def resolver(spec: ModelSpec) -> ModelSpec:
        await found
        return msgspec.structs.replace(spec, tasks=("text-classification",))

    async with House(spec_of("a", tasks=(), adapters=(SQL, POET)), resolver=resolver) as house:
        house.fleet.unload_adapter(house.fleet.get("sql"))
        found.set_result(None)
        await settle()
        assert adapters_of(house.fleet.get("a")) == [("poet", "acme/poet")]
        assert house.fleet.get("a").tasks


@pytest.mark.parametrize("name", ["a:" * 4_000_000, ":" * 4_000_000, "base:" * 1_000_000, "nobody" * 1_000_000])
def test_name_as_long_as_a_body_is_looked_up_once(name: str) -> None:
    """By the declared names, not by its colons; the sentence does not repeat all of it."""
    with pytest.raises(NotServed) as caught:
        directory().get(name)
    assert len(caught.value.message) <= MAX_MESSAGE
