#!/usr/bin/env python3
"""Runs a suite direct and through each proxy, and prints the scores. Called by `run`."""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from world import World

HERE = pathlib.Path(__file__).parent
HOME = HERE.parent.parent / "target/interop"
WAYS = ["direct", "sluice", "mitmproxy", "squid"]
# Seconds for one suite one way.
SUITE_TIME_MAX = 1800


def suite_of_cases(script, *more):
    def once(world, via, ca, name=None):
        command = [sys.executable, HERE / script, "--ca", ca, "--chain", world.chain, "--key", world.key,
                   "--name", name or world.name, *more, *sys.argv[2 + len(ways):]]
        said = spoken([*command, "--via", via] if via else command)
        failed = said["failed"]
        print(f"  {len(said['passed'])} of {len(said['passed']) + len(failed)}   {said['suite']}")
        for case, why in failed.items():
            print(f"    {case}: {why}")
        return said
    return once


def tunnel(world, script, *more):
    """The same suite against the tunnel's own port, with alice's certificate."""
    to = ["--tunnel", str(world.tunnel_port), "--certificate", str(world.alice / "client.pem")]
    once = suite_of_cases(script, *to, *more)
    once(world, None, world.alice / "tunnel-ca.pem", "gateway-acme.pop.test")


def h2spec(world, via, ca):
    suite_of_cases("h2spec.py")(world, via, ca)
    if via and getattr(world, "alice", None):
        print("h2spec, the tunnel of sluice")
        tunnel(world, "h2spec.py")


def tls(world, via, ca):
    suite_of_cases("tls_checks.py")(world, via, ca)
    if via and getattr(world, "alice", None):
        print("tls, the tunnel of sluice")
        tunnel(world, "tls_checks.py", "--config", "modern")


def cache_tests(world, via, ca):
    environment = {"PATH": os.environ["PATH"], "CA": ca, "CHAIN": world.chain, "KEY": world.key, "NAME": world.name,
                   "MODULES": HOME / "node/node_modules", **({"VIA": via} if via else {})}
    said = spoken(["node", HERE / "cache_tests.mjs"], {name: str(value) for name, value in environment.items()})
    verdicts = said["verdicts"]
    if via is None:
        world.direct = verdicts
    wanted = getattr(world, "direct", {})
    differ = {case: (wanted[case], one) for case, one in verdicts.items() if wanted.get(case, one) != one}
    passed = sum(one == "pass" for one in verdicts.values())
    print(f"  {len(verdicts)} verdicts ({passed} pass), {len(differ)} differ from direct   {said['suite']}")
    for case, (before, after) in differ.items():
        print(f"    {case}: {before} -> {after}")
    return said


def spoken(command, environment=None):
    done = subprocess.run([str(one) for one in command], env=environment, stdout=subprocess.PIPE, text=True,
                          timeout=SUITE_TIME_MAX)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"{command} said no result:\n{done.stdout}") from None


SUITES = {
    "autobahn": suite_of_cases("autobahn.py"),
    "cache-tests": cache_tests,
    "h2spec": h2spec,
    "tls": tls,
    "grpc": suite_of_cases("grpc_cases.py", "--programs", str(HOME / "grpc")),
}

ways = [one for one in sys.argv[2:] if one in WAYS]


def main():
    suite = SUITES[sys.argv[1]]
    sluice = os.environ["SLUICE_BIN"]
    print(subprocess.run([sluice, "--version"], capture_output=True, text=True).stdout.strip())
    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        world = World(folder, sluice, pathlib.Path(sys.executable).parent)
        for way in ways or WAYS:
            print(f"{sys.argv[1]}, {way}", flush=True)
            with world.through(way) as (via, ca):
                suite(world, via, ca)


main()
