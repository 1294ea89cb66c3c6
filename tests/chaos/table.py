"""The table of faults: what is done, how often, and what may then be answered with an error, and which."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV, SIGSTOP
from typing import Any

from tests.chaos.client_faults import (
    HALF_A_BODY,
    HALF_A_HEAD,
    clients_that_do_not_read,
    clients_that_drip,
    clients_that_say,
    streams_that_nobody_reads,
)
from tests.chaos.hub_faults import (
    HUB,
    LOST,
    cache_that_is_full,
    disk_that_is_full,
    hub_that,
    hub_that_breaks_off,
    hub_that_says_nothing_of_many,
)
from tests.chaos.memory_group import can_limit_memory
from tests.chaos.running import Fault, Inject
from tests.chaos.server_faults import (
    CLOCK,
    NUM_QUEUED,
    NUM_STREAMS,
    exhaust_files,
    jump_clocks,
    kill_server,
    stop_server,
)
from tests.chaos.worker_faults import (
    deed_in,
    kill_every_two_seconds,
    kill_forkserver,
    leak,
    poison,
    run_out_of_memory,
    signal_at_rest,
    signal_between_tokens,
    signal_in,
)
from tests.fake_hub import Trouble

POISON = {"poison": ("500 worker_lost",)}
STREAM_LOST = {"stream": ("stream worker_lost",), "long stream": ("stream worker_lost",)}
"""Somebody may have read of it, so that it cannot be computed again; its last event says so."""
EVERYTHING = ("classify", "embed", "generate", "stream", "long stream", "staged")
CUT = {kind: ("cut",) for kind in EVERYTHING}


def _hub(name: str, inject: Inject, **more: Any) -> Fault:
    """That a model comes from, while others are asked."""
    keys: dict[str, Any] = {"setup": HUB, "clients": {"classify": 4}, "allowed": {"far": ("503 model_failed",)}}
    return Fault(name=name, inject=inject, **(keys | more))


SIGNALS = tuple(
    Fault(
        name=f"{number.name} of a worker that {doing}",
        inject=signal_in(stage, number),
        times=1 if number is SIGSTOP else 5,
        is_quick=number is SIGKILL,
    )
    for number in (SIGKILL, SIGSEGV, SIGSTOP)
    for stage, doing in (("load", "loads"), ("prepare", "prepares"), ("forward", "computes"), ("finish", "finishes"))
) + tuple(
    Fault(
        name=f"{number.name} of a worker that streams",
        inject=signal_between_tokens(number),
        clients={"stream": 4, "generate": 4, "embed": 2},
        allowed=STREAM_LOST,
        times=1 if number is SIGSTOP else 5,
    )
    for number in (SIGKILL, SIGSEGV, SIGSTOP)
)
WORKERS = (
    *SIGNALS,
    Fault(name="SIGSTOP of a worker at rest", inject=signal_at_rest(SIGSTOP), clients={"classify": 4}, times=1),
    Fault(name="A segmentation fault in a forward", inject=deed_in("forward", "crash"), is_quick=True),
    Fault(name="A forward that never returns (limit 3 s)", inject=deed_in("forward", "hang"), times=2),
    Fault(name="A worker without a heartbeat (limit 10 s)", inject=deed_in("prepare", "seize"), times=1),
    Fault(name="A request that crashes its worker, always", inject=poison("crash"), allowed=POISON, is_quick=True),
    Fault(name="A request that hangs its worker, always", inject=poison("hang"), allowed=POISON, times=1),
    Fault(
        name="A request for which there is no memory",
        inject=poison("allocate"),
        allowed={"poison": ("500 backend",)},
        is_quick=True,
    ),
    Fault(name="A worker that grows beyond memory_limit", inject=leak, times=2),
    Fault(name="A worker that answers garbage", inject=deed_in("forward", "babble"), is_quick=True),
    Fault(name="A worker that ends in half a message", inject=deed_in("forward", "stammer"), is_quick=True),
    Fault(name="SIGKILL of the forkserver, a model to be loaded", inject=kill_forkserver, times=3),
    Fault(
        name="SIGKILL of a worker every two seconds",
        inject=kill_every_two_seconds,
        clients={"classify": 32, "embed": 2},
        times=1,
        is_quick=True,
    ),
)
KERNELS = (
    (Fault(name="The kernel ends a worker for its memory", inject=run_out_of_memory, is_quick=True),)
    if can_limit_memory()
    else ()
)
CACHES = (Fault(name="The disk of the cache is full during a load", inject=cache_that_is_full, is_quick=True),)
HUBS = (
    _hub("The Hub answers 401", hub_that(Trouble(status=401), "HF_TOKEN")),
    _hub("The Hub answers 404", hub_that(Trouble(status=404), "answered 404")),
    _hub("The Hub answers 429", hub_that(Trouble(status=429), "answered 429")),
    _hub("The Hub answers 500", hub_that(Trouble(status=500), "answered 500")),
    _hub("The Hub does not answer (limit 2 s)", hub_that(Trouble(silence_s=5), "cannot be reached"), times=2),
    _hub("The Hub leaves 40 models in the dark", hub_that_says_nothing_of_many, setup=LOST, clients={}, times=2),
    _hub("The Hub breaks off every file, again and again", hub_that_breaks_off, allowed={}),
    _hub("The disk is full during a download", disk_that_is_full),
)
SERVERS = (
    Fault(name="SIGKILL of the API process", inject=kill_server, allowed=CUT, times=2),
    Fault(
        name=f"SIGTERM with {NUM_QUEUED} requests queued and {NUM_STREAMS} streams open",
        inject=stop_server,
        clients={},
        allowed={"late": ("503 draining",)},
        times=2,
    ),
    Fault(name="No file descriptors left", inject=exhaust_files, clients={}, is_quick=True),
)
CLOCKS = (Fault(name="The wall clock jumps a day ahead, and two back", inject=jump_clocks, setup=CLOCK, times=2),)
CLIENTS = (
    Fault(name="2,000 connections that say nothing", inject=clients_that_say(b"", 2000), times=2),
    Fault(name="500 connections that end in a header", inject=clients_that_say(HALF_A_HEAD, 500), times=2),
    Fault(name="500 connections that end in a body", inject=clients_that_say(HALF_A_BODY, 500), times=2),
    Fault(name="50 connections that drip a header", inject=clients_that_drip(HALF_A_HEAD, 50), times=1),
    Fault(name="50 connections that drip a body", inject=clients_that_drip(HALF_A_BODY, 50), times=1),
    Fault(name="Answers of 8 MiB that nobody reads", inject=clients_that_do_not_read, times=1),
    Fault(name="Streams that nobody reads", inject=streams_that_nobody_reads, times=1),
)
FAULTS = WORKERS + KERNELS + CACHES + SERVERS + CLIENTS + CLOCKS + HUBS
