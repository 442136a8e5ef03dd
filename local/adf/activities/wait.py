"""Wait: let time pass. https://learn.microsoft.com/azure/data-factory/control-flow-wait-activity."""

import asyncio

from local.adf.activities.attempt import Attempt


async def perform(attempt: Attempt) -> None:
    """Wait for so many seconds; unlike Azure's, they may be a fraction."""
    declared = attempt.evaluate(attempt.activity.type_properties.get("waitTimeInSeconds"))
    attempt.record.input = {"waitTimeInSeconds": declared}
    await asyncio.sleep(attempt.evaluate_number(declared))
