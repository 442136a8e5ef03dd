"""An app whose timer names an app setting that does not exist."""

import azure.functions as func

app = func.FunctionApp()


@app.timer_trigger(schedule="%NO_SUCH_SETTING%", arg_name="timer")
def never(timer: func.TimerRequest) -> None:
    """Never run."""
