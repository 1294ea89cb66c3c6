"""`python -m bench.scaling`: routing policies compared on simulated nodes, all of them with the same requests.

Prints Markdown tables, the same for the same arguments. With `--fail rack` (or `node`) a rack loses its memory at 60 %
of the time, for three minutes. The second table tells the minutes around it, and without a failure the same minutes, to
compare with.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence

from bench.processes import say
from bench.scaling.inputs import Inputs, costs_of, read_inputs
from bench.scaling.report import COST_COLUMNS, WINDOW_COLUMNS, Window, costs_row, table, window_row
from bench.scaling.routing import POLICIES, Router
from bench.scaling.settings import Failure, Settings
from bench.scaling.simulation import Result, Simulation
from bench.scaling.workload import Demand, Requests, draw_requests, draw_weights

WARMING_UP = 0.4
"""The share of the requests that fills memories and caches and is not counted."""
FAILS_AT = 0.6
FAILURE_S = 180.0
_NODES_IN_A_RACK = 40
_GIB = 2**30


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    demand = Demand(
        num_models=options.models,
        num_requests=options.requests,
        rate=options.rate * options.nodes,
        exponent=options.zipf,
        burst_share=options.bursts,
    )
    num_racks = max(2, options.nodes // _NODES_IN_A_RACK)
    settings = Settings(
        num_nodes=options.nodes,
        num_racks=num_racks,
        num_routers=options.routers,
        keep_alive_s=options.keep_alive,
        poll_s=options.poll,
        num_homes=options.homes,
        failures=[failure_of(options.fail, options.nodes, num_racks, demand)],
    )
    inputs = read_inputs()
    if options.memory is not None:
        hardware = dataclasses.replace(inputs.hardware, memory_bytes=round(options.memory * _GIB))
        inputs = dataclasses.replace(inputs, hardware=hardware)
    chosen = {name: POLICIES[name] for name in options.policies.split(",")}
    results = simulate(chosen, inputs, settings, demand, options.seed)
    report(results, inputs, settings, demand)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policies", default=",".join(POLICIES), help="some of these, with commas between them")
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second for each node")
    parser.add_argument("--zipf", type=float, default=1.0, help="exponent of the models' popularity")
    parser.add_argument("--bursts", type=float, default=0.1, help="share of the requests that come in bursts")
    parser.add_argument("--memory", type=float, help="GiB for models on a node, instead of inputs.json's")
    parser.add_argument("--keep-alive", type=float, default=300.0, help="seconds; -1: for ever")
    parser.add_argument("--poll", type=float, default=5.0, help="seconds between two polls of a node by a router")
    parser.add_argument("--routers", type=int, default=4)
    parser.add_argument(
        "--homes", type=int, default=2, help="disks with each model's weights; 0: only the hub has them"
    )
    parser.add_argument("--fail", choices=["none", "node", "rack"], default="none")
    options = parser.parse_args(arguments)
    if unknown := set(options.policies.split(",")) - set(POLICIES):
        parser.error(f"--policies: there is no {', '.join(sorted(unknown))}; there are {', '.join(POLICIES)}")
    for name in ("nodes", "models", "requests", "rate", "routers", "poll"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name} must be more than 0")
    return options


def failure_of(what: str, num_nodes: int, num_racks: int, demand: Demand) -> Failure:
    """Of rack 0 (as `Ring.rack` has it), its first node, or no node."""
    nodes = {"none": [], "node": [0], "rack": list(range(0, num_nodes, num_racks))}[what]
    at_s = FAILS_AT * demand.num_requests / demand.rate
    return Failure(at_s=at_s, nodes=nodes, lasts_s=FAILURE_S)


def simulate(
    policies: Mapping[str, type[Router]], inputs: Inputs, settings: Settings, demand: Demand, seed: int
) -> dict[str, Result]:
    weights = draw_weights(demand, seed)
    costs, requests = costs_of(inputs, weights, settings.max_items), draw_requests(demand, seed)
    if (largest := max(costs.memory_bytes)) > inputs.hardware.memory_bytes:
        raise SystemExit(
            f"--memory: the largest model takes {largest / _GIB:.1f} GiB, and would wait for ever on a node with"
            f" {inputs.hardware.memory_bytes / _GIB:g} GiB."
        )
    describe(inputs, settings, demand, weights, requests)
    results = {}
    for name, policy in policies.items():
        began = time.process_time()
        results[name] = Simulation(
            settings,
            inputs.hardware,
            costs,
            requests,
            policy,
            seed=seed,
            counted_from_s=WARMING_UP * demand.num_requests / demand.rate,
        ).run()
        say(f"<!-- {name}: {time.process_time() - began:.0f} s of processor time -->")
    say()
    return results


def describe(inputs: Inputs, settings: Settings, demand: Demand, weights: Sequence[int], requests: Requests) -> None:
    say(
        f"{settings.num_nodes:,} nodes in {settings.num_racks} racks, {inputs.hardware.memory_bytes / _GIB:.0f} GiB for"
        f" models and {inputs.hardware.num_slots} slots each; {demand.num_models:,} models of {sum(weights) / 1e12:.1f}"
        f" TB in all; {demand.num_requests:,} requests in {requests.times_s[-1]:.0f} s, of which the first"
        f" {WARMING_UP:.0%} are not counted; Zipf {demand.exponent}, {demand.burst_share:.0%} in bursts;"
        f" {settings.num_routers} routers, a poll every {settings.poll_s:g} s, keep_alive {settings.keep_alive_s:g} s,"
        f" {settings.num_homes} homes."
    )


def report(results: Mapping[str, Result], inputs: Inputs, settings: Settings, demand: Demand) -> None:
    end_s = demand.num_requests / demand.rate
    rows = []
    for name, result in results.items():
        window = window_row(result, Window("", result.counted_from_s, end_s))
        rows.append([name, *window, *costs_row(result, inputs.hardware, settings.num_nodes)])
    say(table(["policy", *WINDOW_COLUMNS, *COST_COLUMNS], rows))
    for failure in settings.failures:
        say()
        rows = [
            [name, window.name, *window_row(result, window)]
            for name, result in results.items()
            for window in windows_around(failure)
        ]
        say(table(["policy", f"{len(failure.nodes)} nodes down", *WINDOW_COLUMNS], rows))


def windows_around(failure: Failure) -> list[Window]:
    down, up = failure.at_s, failure.ends_at_s
    return [
        Window("the minute before", down - 60, down),
        Window("first minute", down, down + 60),
        Window("until they are back", down + 60, up),
        Window("first minute after", up, up + 60),
    ]


if __name__ == "__main__":
    main()
