"""Which module performs which type of activity."""

from collections.abc import Mapping

from local.adf.activities import declared, execute_pipeline, fail, if_condition, set_variable, wait, web
from local.adf.activities.attempt import Perform
from local.adf.graph import Activity

_EXECUTED: Mapping[str, Perform] = {
    "ExecutePipeline": execute_pipeline.perform,
    "Fail": fail.perform,
    "IfCondition": if_condition.perform,
    "SetVariable": set_variable.perform,
    "Wait": wait.perform,
    "WebActivity": web.perform,
}


def kind_of(activity: Activity) -> Perform:
    """What performs this activity: its type's own module, or its declarations."""
    if declared.overrides(activity):
        return declared.perform
    return _EXECUTED.get(activity.type, declared.perform)
