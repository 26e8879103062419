"""The settings of a command: from its flags, and ``quire config show``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import msgspec

from ..config.loader import Flag, Loaded, load
from ..errors import UsageError
from .output import say, say_json

FLAGS: dict[str, tuple[str, ...]] = {
    "--library": ("library",),
    "--email": ("web", "contact_email"),
    "--offline": ("web", "offline"),
    "--stand-in": ("web", "stand_in"),
    "--pacing": ("web", "pacing"),
    "--verify-title": ("verify", "title"),
    "--profile": ("fallback", "profile"),
    "--fallback-total-timeout-ms": ("fallback", "budgets", "total_timeout_ms"),
    "--fallback-max-attempts": ("fallback", "budgets", "total_attempts"),
    "--fallback-max-concurrent": ("fallback", "budgets", "max_concurrent"),
}
"""Flag → the setting that it is."""
SECRETS = frozenset({"sources.openalex.api_key"})
"""Settings that are told of, and never shown."""
HIDDEN = "(set, not shown)"
_TIER = re.compile(r"([^:=]+):parallel=(\d+)")


def settings_of(args: argparse.Namespace) -> Loaded:
    """The settings under which a command runs.

    Raises:
        UsageError: a key, a value or a flag is wrong.
    """
    flags = [*_simple_flags(args), *_tier_flags(args)]
    config = Path(args.config) if args.config else None
    loaded = load(flags, config=config)
    if getattr(args, "disable_wayback_fallback", False):
        disabled = list(dict.fromkeys((*loaded.settings.fallback.disabled, "wayback_pdf")))
        flags.append(Flag(("fallback", "disabled"), disabled, "--disable-wayback-fallback"))
        loaded = load(flags, config=config)
    return loaded


def _given(args: argparse.Namespace, flag: str) -> object:
    return getattr(args, flag.removeprefix("--").replace("-", "_"), None)


def _simple_flags(args: argparse.Namespace) -> list[Flag]:
    values = ((flag, path, _given(args, flag)) for flag, path in FLAGS.items())
    return [
        Flag(path, value, flag) for flag, path, value in values if value is not None and value is not False
    ]


def _tier_flags(args: argparse.Namespace) -> list[Flag]:
    flags = []
    for text in getattr(args, "fallback_tier", None) or ():
        found = _TIER.fullmatch(text)
        if found is None:
            raise UsageError(
                f"--fallback-tier {text}: expected NAME:parallel=N, such as direct_oa:parallel=3"
            )
        name, parallel = found.groups()
        flags.append(Flag(("fallback", "tiers", name, "parallel"), int(parallel), "--fallback-tier"))
    return flags


def as_arguments(args: argparse.Namespace) -> list[str]:
    """The flags of a command that are settings, to be handed on to another process of it."""
    words: list[str] = ["--config", args.config] if args.config else []
    for flag in FLAGS:
        value = _given(args, flag)
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, str(value)]
    for text in args.fallback_tier or ():
        words += ["--fallback-tier", text]
    return words + ["--disable-wayback-fallback"] * bool(args.disable_wayback_fallback)


def show(args: argparse.Namespace) -> int:
    """``quire config show``: every setting, as it would be used."""
    loaded = settings_of(args)
    if args.json:
        settings = _without_secrets(msgspec.to_builtins(loaded.settings))
        origins = {path: str(origin) for path, origin in loaded.origins.items()}
        say_json({"settings": settings, "origins": origins} if args.origin else settings)
        return 0
    width = max(len(path) for path in loaded.values)
    for path, value in loaded.values.items():
        shown = HIDDEN if value and path in SECRETS else msgspec.json.encode(value).decode()
        if args.origin:
            say(f"{path:<{width}}  {shown}  # {loaded.origins[path]}")
        else:
            say(f"{path:<{width}}  {shown}")
    return 0


def _without_secrets(settings: dict[str, Any]) -> dict[str, Any]:
    for path in SECRETS:
        *way, name = path.split(".")
        record = settings
        for step in way:
            record = record[step]
        record[name] = HIDDEN if record[name] else None
    return settings
