"""What the suites share: their options and the shape of their report."""

import argparse
import importlib.metadata
import json


def options(name, more=()):
    """The command line of a suite. `more` are flags of its own, with their help."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--via", help="URL of the proxy; without it, direct")
    parser.add_argument("--ca", required=True, help="PEM of the CA that the client trusts")
    parser.add_argument("--chain", required=True, help="PEM of the origin's certificates")
    parser.add_argument("--key", required=True, help="PEM of the origin's key")
    parser.add_argument("--name", default="suite.test", help="the origin's name, within its certificate")
    parser.add_argument("--only", action="append", help="a case, or a pattern of cases, to run")
    parser.add_argument("--without", action="append", help="the same, to leave out")
    for flag, help in more:
        parser.add_argument(flag, help=help)
    return parser.parse_args()


def version(package):
    return importlib.metadata.version(package)


def report(name, passed, failed):
    """Prints the one JSON object of a suite: `passed` is a list of cases, `failed` says why of each.

    The status to exit with: 1 where a case failed, or none ran.
    """
    print(json.dumps({"suite": name, "passed": sorted(passed), "failed": failed}))
    return 1 if failed or not passed else 0
