"""An app that cannot be indexed: a parameter is not a binding."""

import azure.functions as func

app = func.FunctionApp()


@app.route("broken")
def broken(req: func.HttpRequest, surprise: str) -> func.HttpResponse:
    """Never run."""
    return func.HttpResponse(surprise)
