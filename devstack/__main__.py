"""The command line. Run with: python -m devstack --help"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import truststore

from devstack import CHECKOUT, StackError, kafka_jars
from devstack.execute import execute
from devstack.run import run


def main() -> int:
    """Run one command; trouble that a person can act on is one line on standard error and exit code 1."""
    arguments = _parser().parse_args()
    # Jars come over TLS: trust whom the machine trusts, as pip does, and not only those whom requests brings along.
    truststore.inject_into_ssl()
    try:
        code: int = arguments.command(arguments)
        return code
    except StackError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    return asyncio.run(run(arguments.state, with_demo=arguments.demo, with_parent=arguments.stop_with_parent))


def _execute(arguments: argparse.Namespace) -> int:
    command = arguments.argv[1:] if arguments.argv[0] == "--" else arguments.argv
    return asyncio.run(execute(command, durable=arguments.durable, with_parent=arguments.stop_with_parent))


def _fetch_kafka(_: argparse.Namespace) -> int:
    kafka_jars.fetch(kafka_jars.read_lock())
    return 0


def _lock_kafka(arguments: argparse.Namespace) -> int:
    kafka_jars.write_lock(arguments.version)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devstack", description="Orderbox on one machine, with its engines."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(commands, "run", _run, "bring up engines, web and workers; serve until Ctrl-C")
    serve.add_argument(
        "--state", type=Path, default=CHECKOUT / ".devstack", help="the state folder (default: .devstack)"
    )
    serve.add_argument("--no-demo", dest="demo", action="store_false", help="do not place a demo order")
    serve.add_argument("--stop-with-parent", action="store_true", help="stop when the parent process ends")

    once = _command(commands, "exec", _execute, "run a command against throw-away engines")
    once.add_argument("--durable", action="store_true", help="engines that commit to disk, as for `run`")
    once.add_argument("--stop-with-parent", action="store_true", help="stop when the parent process ends")
    once.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")

    _command(commands, "fetch-kafka", _fetch_kafka, "fetch the jars of Apache Kafka that kafka.lock.toml names")
    lock = _command(commands, "lock-kafka", _lock_kafka, "write kafka.lock.toml for another version of Apache Kafka")
    lock.add_argument("version")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    function: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description, description=description)
    parser.set_defaults(command=function)
    return parser


if __name__ == "__main__":
    sys.exit(main())
