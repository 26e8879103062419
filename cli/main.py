"""The command ``quire``: its arguments, and the one place where errors become messages and exit codes.

Only argparse is imported here; each command's module comes in when the command is run.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import EnvironmentFault, InvariantError, QuireError
from ..version import VERSION

EXIT_SOME_FAILED = 1
EXIT_INTERRUPTED = 130
NATURAL_DIGITS_MAX = 15
"""Of a position or a seed."""
_EPILOG = """\
exit codes: 0 all done, 1 some works failed, 2 usage, 3 the log or a file is damaged,
            4 the environment (disk full, read-only, stand-in down), 130 interrupted
"""


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("where")
    group.add_argument("--library", metavar="DIR", help="the folder that holds everything (default: library)")
    group.add_argument("--config", metavar="FILE", help="settings instead of quire.yaml in the library")
    return common


def _network(*, rehearsed: bool) -> argparse.ArgumentParser:
    """How the network is asked, and which one; each flag is a setting."""
    network = argparse.ArgumentParser(add_help=False)
    web = network.add_argument_group("the network")
    web.add_argument("--email", metavar="ADDRESS", help="your address, for Unpaywall and the User-Agent")
    web.add_argument("--offline", action="store_true", help="ask nothing of the network but metadata")
    if rehearsed:
        web.add_argument(
            "--stand-in", metavar="URL", help="a server on loopback that plays the web: a rehearsal"
        )
        web.add_argument("--pacing", choices=("polite", "none"), help="none: only with a stand-in")
    return network


def _proving() -> argparse.ArgumentParser:
    """How PDFs are proved; each flag is a setting."""
    proving = argparse.ArgumentParser(add_help=False)
    proof = proving.add_argument_group("the proof of each PDF")
    proof.add_argument(
        "--verify-title",
        choices=("off", "warn", "fail"),
        help="tell (warn) or refuse (fail) PDFs whose text shows neither the work's DOI nor its title",
    )
    return proving


def _planning() -> argparse.ArgumentParser:
    """The plan by which sources are asked; each flag is a setting."""
    planning = argparse.ArgumentParser(add_help=False)
    plan = planning.add_argument_group("the fallback plan of each work")
    plan.add_argument("--profile", choices=("default", "fast", "reliable"), help="a set of budgets")
    plan.add_argument("--fallback-total-timeout-ms", type=int, metavar="MS")
    plan.add_argument("--fallback-max-attempts", type=int, metavar="N")
    plan.add_argument("--fallback-max-concurrent", type=int, metavar="N")
    plan.add_argument("--fallback-tier", action="append", metavar="NAME:parallel=N", help="may be repeated")
    plan.add_argument("--disable-wayback-fallback", action="store_true")
    return planning


def _working() -> argparse.ArgumentParser:
    """The flags of commands that do the whole work."""
    groups = [_network(rehearsed=True), _proving(), _planning()]
    working = argparse.ArgumentParser(add_help=False, parents=groups)
    working.add_argument("--json", action="store_true", help="the summary as one JSON object on stdout")
    return working


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 1000000, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > NATURAL_DIGITS_MAX:
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """Of a wrong word it says the one line that matters, not every flag there is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Commands:
    """The commands as they are declared: name, the function that runs it, what it is for."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._added = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: str, about: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        parser = self._added.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", parents=list(parents)
        )
        parser.set_defaults(function=function)
        return parser


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="quire",
        description="Bring home open-access papers, one verified PDF each, and account for every step.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"quire {VERSION}")
    commands = _Commands(parser)
    _add_working_commands(commands)
    _add_status_commands(commands)
    _add_log_commands(commands)
    _add_fallback_commands(commands)
    _add_breaker_commands(commands)
    return parser


def _add_working_commands(commands: _Commands) -> None:
    common, working = _common(), _working()
    run = commands.add("run", "run:run", "bring home the works of lists", common, working)
    run.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help=".txt .csv .tsv .jsonl .bib .ris, listings of arXiv (mail, HTML, Atom, OAI-PMH), also .gz; or -",
    )
    run.add_argument(
        "--openalex",
        metavar="FILTER",
        help="the works that OpenAlex lists for a filter (or its address), listed once and gone on with "
        "after a stop; may stand beside INPUTs",
    )
    run.add_argument(
        "--refresh", action="store_true", help="list the works anew, where --openalex listed them all before"
    )
    run.add_argument("--dry-run", action="store_true", help="plan nothing; say what would be done")
    run.add_argument(
        "--sample", type=_positive, metavar="N", help="only N works of the list, drawn by --seed"
    )
    run.add_argument("--seed", type=_natural, default=0, metavar="S", help="of the sample (default: 0)")
    run.add_argument("--retry-failed", action="store_true", help="also those that failed for good")
    resume = commands.add(
        "resume", "run:resume", "go on with whatever is left in the library", common, working
    )
    for command in (run, resume):
        command.add_argument(
            "--workers", type=_positive, default=1, metavar="N", help="processes (default: 1)"
        )
    resume.add_argument("--worker-of", metavar="LIST", help=argparse.SUPPRESS)
    resume.add_argument("--parent", type=int, metavar="PID", help=argparse.SUPPRESS)
    demo = commands.add("demo", "demo:demo", "the whole of it against a simulated web on loopback")
    demo.add_argument("--library", metavar="DIR", default="demo-library", help="default: demo-library")
    demo.add_argument("--keep", action="store_true", help="go on with the library of the last demo")
    demo.add_argument("--works", type=_positive, default=200, metavar="N", help="default: 200")
    demo.add_argument(
        "--seed", type=_natural, default=1, metavar="S", help="of the simulated web (default: 1)"
    )
    demo.add_argument("--json", action="store_true", help="the summary as one JSON object on stdout")


def _add_status_commands(commands: _Commands) -> None:
    common = _common()
    status = commands.add("status", "status:status", "how many works are in which state, and why", common)
    status.add_argument("--leases", action="store_true", help="also who works on what")
    status.add_argument("--watch", action="store_true", help="show it anew with every change, until Ctrl-C")
    status.add_argument("--json", action="store_true")
    listing = commands.add("list", "status:list_jobs", "the jobs of the library, one a line", common)
    listing.add_argument("--state", metavar="STATE", help="only jobs in this state")
    listing.add_argument(
        "--reason", metavar="CODE", help="only jobs that failed or wait for this, a code as status shows them"
    )
    listing.add_argument("--source", metavar="NAME", help="only papers that came from this source")
    listing.add_argument(
        "--title-check",
        choices=("doi", "arxiv", "title", "mismatch", "no_text", "unknown"),
        help="only papers whose text shows this of the work; mismatch: neither its DOI nor its title",
    )
    listing.add_argument("--json", action="store_true", help="a JSON object a line")
    export = commands.add("export", "export:export", "the jobs as a file for other programs", common)
    export.add_argument(
        "--format",
        required=True,
        choices=("csv", "jsonl", "parquet", "bibtex"),
        help="the paths of the papers are relative to the library in each",
    )
    export.add_argument("--output", metavar="FILE", help="default: standard output")
    export.add_argument("--state", metavar="STATE", help="only jobs in this state")
    export.add_argument("--list", metavar="LIST|INPUT", help="only jobs of this list, by its id or its file")
    retry = commands.add("retry", "status:retry", "let failed works be tried again", common)
    retry.add_argument("works", nargs="*", metavar="WORK", help="default: every one of that kind")
    retry.add_argument(
        "--damaged",
        action="store_true",
        help="not failed works, but those at home whose paper is gone or damaged; reads every paper",
    )
    retry.add_argument("--json", action="store_true")
    explain = commands.add("explain", "explain:explain", "in plain words, what became of a work", common)
    explain.add_argument(
        "work", metavar="WORK|JOB", help="an identifier, URL or label, or (the start of) a job id"
    )
    explain.add_argument("--all", action="store_true", help="every event of it")
    explain.add_argument("--json", action="store_true")


def _add_log_commands(commands: _Commands) -> None:
    common = _common()
    log = commands.add("log", "log:log", "the events, in the order of the log", common)
    log.add_argument("--follow", action="store_true", help="wait for new ones, until Ctrl-C")
    log.add_argument("--stream", metavar="S", help="only this stream, such as job/… or host/arxiv.org")
    log.add_argument("--after", type=_natural, default=0, metavar="N", help="only behind position N")
    log.add_argument("--json", action="store_true", help="a JSON object a line")
    replay = commands.add("replay", "log:replay", "the status as of an earlier moment", common)
    replay.add_argument(
        "--at",
        required=True,
        metavar="POSITION|TIME",
        help="or a time in ISO 8601, UTC where it names no zone",
    )
    replay.add_argument("--json", action="store_true")
    audit = commands.add("audit", "audit:audit", "check the chain, the projections and every PDF", common)
    audit.add_argument(
        "action", nargs="?", choices=("seal",), help="print the head of the log, to keep elsewhere"
    )
    audit.add_argument("--against", metavar="SEAL", help="a kept seal: show whether the log was rolled back")
    audit.add_argument("--key", metavar="FILE", help="a secret: the seal carries an HMAC made with it")
    audit.add_argument("--json", action="store_true")
    commands.add("rebuild", "log:rebuild", "drop the projections and fold the log anew", common)
    slo = commands.add("slo", "slo:slo", "the service levels, from the log; 1 when one is missed", common)
    slo.add_argument("--since", metavar="TIME", help="in ISO 8601, or how long ago: 24h, 7d")
    slo.add_argument("--hashes", action="store_true", help="read every paper, not only its size")
    slo.add_argument("--prometheus", action="store_true", help="in the text format of Prometheus")
    slo.add_argument("--json", action="store_true")
    backup = commands.add(
        "backup", "upkeep:backup", "a copy of the library, itself a library; again: what is new", common
    )
    backup.add_argument("target", metavar="FOLDER", help="where the copy is, or will be")
    backup.add_argument("--json", action="store_true")
    gc = commands.add("gc", "upkeep:gc", "remove files that no job needs any more", common)
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    gc.add_argument("--older-than", default="1h", metavar="SPAN", help="leave younger files (default: 1h)")
    gc.add_argument("--parts", action="store_true", help="also parts that a later run could go on from")
    gc.add_argument("--json", action="store_true")
    config = commands.add(
        "config", "config:show", "the settings and where each comes from", common, _working()
    )
    config.add_argument("action", choices=("show",))
    config.add_argument("--origin", action="store_true", help="file and line, variable or flag of each value")


def _add_fallback_commands(commands: _Commands) -> None:
    fallback = commands.add("fallback", "fallback:fallback", "the plan by which sources are asked")
    actions = fallback.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, about in (
        ("config", "the plan in force, and where each setting was said"),
        ("plan", "which sources would be asked for a work, in which order, and why not others"),
        ("explain", "the plan for a work, and what the log says happened"),
        ("dryrun", "the plans of all works of lists, summed"),
        ("stats", "how the turns of the sources went"),
        ("tune", "changes to the plan that would have paid, found by replaying the recorded turns"),
    ):
        action = actions.add_parser(name, help=about, parents=[_common(), *_read_by(name)])
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")
        if name in ("plan", "explain"):
            action.add_argument("work", metavar="WORK", help="an identifier, a URL, a title, or a job")
        elif name == "dryrun":
            action.add_argument("inputs", nargs="+", metavar="INPUT", help="as for run")
        elif name == "stats":
            groups = ("tier", "source", "host", "reason", "period")
            action.add_argument("--by", choices=groups, default="source")
            action.add_argument(
                "--period", default="1d", metavar="SPAN", help="length of a period: 1h, 1d, 1w (default: 1d)"
            )
        elif name == "tune":
            action.add_argument(
                "--works", type=_positive, default=500, metavar="N", help="replay N at most (default: 500)"
            )
            action.add_argument(
                "--seed", type=_natural, default=0, metavar="S", help="of their choice (default: 0)"
            )
        if name in ("stats", "tune"):
            action.add_argument("--since", metavar="TIME", help="in ISO 8601, or how long ago: 24h, 7d")


def _read_by(action: str) -> list[argparse.ArgumentParser]:
    """The flags for the settings that an action of ``fallback`` reads: none asks the network."""
    if action == "stats":
        return []
    return [_planning()] if action in ("config", "tune") else [_network(rehearsed=False), _planning()]


def _add_breaker_commands(commands: _Commands) -> None:
    breaker = commands.add("breaker", "breaker:breaker", "the hosts that are left alone for a while")
    actions = breaker.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the hosts that are left alone, and why", parents=[_common()])
    listing.add_argument("--all", action="store_true", help="also those that are asked again")
    opening = actions.add_parser("open", help="leave a host alone, in all workers", parents=[_common()])
    closing = actions.add_parser("close", help="ask a host again, in all workers", parents=[_common()])
    for action in (opening, closing):
        action.add_argument("host", metavar="HOST", help="such as arxiv.org, or a URL there")
    opening.add_argument(
        "--for", dest="span", metavar="SPAN", help="30s, 10m, 1h, 3d … (default: web.breaker.open_s)"
    )
    opening.add_argument("--reason", metavar="TEXT", default="", help="why, for those who read the log")
    for action in (listing, opening, closing):
        action.add_argument("--json", action="store_true")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; usage errors of argparse leave by ``SystemExit(2)``."""
    args = build_parser().parse_args(argv)
    from .defects import DEFECTS, listen  # not at import: `quire --help` must not pay for it

    listen()
    _print_anything()
    try:
        code = _run(args)
        sys.stdout.flush()
    except InvariantError as error:
        DEFECTS.note(error)
        return error.exit_code
    except QuireError as error:
        return _failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failed("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left; that is its right. Nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _failed(f"the environment: {error}", EnvironmentFault.exit_code)
    except Exception as error:  # noqa: BLE001 - the last place: a user gets a line, never a traceback
        DEFECTS.note(error)
        return InvariantError.exit_code
    return code


def _run(args: argparse.Namespace) -> int:
    module, name = args.function.split(":")
    return int(getattr(importlib.import_module(f"{__package__}.{module}"), name)(args))


def _print_anything() -> None:
    """Names of files and titles may hold what the terminal's encoding does not."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"quire: {message}\n")
    return code
