"""The plan of a fallback: the sources by tiers, and the budgets of time and turns. Pure."""

from __future__ import annotations

import msgspec

from ..config.settings import Fallback as FallbackSettings


class Plan(msgspec.Struct, frozen=True):
    """What the settings say of the fallback machine, resolved: no field may be missing any more."""

    tiers: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Name, parallel, sources."""
    timeouts_ms: dict[str, int]
    total_timeout_ms: int
    total_attempts: int
    max_concurrent: int

    @classmethod
    def of(cls, settings: FallbackSettings) -> Plan:
        """The plan that the settings describe, without the disabled sources."""
        budgets = settings.budgets
        policies = settings.policies
        tiers = tuple(
            (tier.name, tier.parallel, tuple(s for s in tier.sources if s not in settings.disabled))
            for tier in settings.tiers
        )
        named = {source: policies.get(source) for _, _, sources in tiers for source in sources}
        timeouts: dict[str, int] = {
            source: (policy.timeout_ms if policy and policy.timeout_ms else budgets.per_source_timeout_ms)
            for source, policy in named.items()
        }
        return cls(tiers, timeouts, budgets.total_timeout_ms, budgets.total_attempts, budgets.max_concurrent)


def led_by(plan: Plan, source: str, *, timeout_ms: int) -> Plan:
    """The plan with a source that has its turn alone, before all tiers."""
    return msgspec.structs.replace(
        plan,
        tiers=((source, 1, (source,)), *plan.tiers),
        timeouts_ms={**plan.timeouts_ms, source: timeout_ms},
    )
