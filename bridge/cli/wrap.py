"""`python -m bridge wrap`: from pipelines to their wrappers; shown, written, compared or deployed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, Never

from bridge import config
from bridge.cli import topic_endpoint, wrapping
from bridge.cli.deployment import Deployment, NotDeployedError
from bridge.cli.story import plain
from bridge.cli.wrapper import text_of
from bridge.cli.wrapper_folder import NotWrittenError, WrapperFolder
from bridge.cli.wrapping import Complaints, Source
from bridge.errors import ConfigInvalid
from bridge.model import FactoryId
from bridge.policy import WRAPPER_SUFFIX, wrapper_of

DONE: Final = 0
NOT_ALL_DONE: Final = 1

_EPILOG: Final = """\
examples:
  %(prog)s pipeline/orders.json --topic URL
      show the wrapper of one pipeline
  %(prog)s . --topic URL --factory ARM_ID --out pipeline
      write the wrappers of a Git repository's pipelines next to them
  %(prog)s . --topic URL --factory ARM_ID --out pipeline --check
      exit with 1 if that would change anything, and say what (for CI)
  %(prog)s . --topic URL --factory ARM_ID --deploy
      put them into the factory (the identity: az login, or that of the machine)

exit codes: 0 all is done; 1 something could not be wrapped, written or deployed, or --check found a difference
(stderr says what, for every file and pipeline); 2 called wrongly. docs/wrap.md tells more.
"""


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to a command line."""
    parser = commands.add_parser(
        "wrap",
        help="generate the pipelines that tell the bridge how runs end",
        description=f"Generates NAME{WRAPPER_SUFFIX}: a pipeline that runs NAME and tells a topic how that ended.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="PIPELINE",
        type=_source,
        help="a pipeline's JSON file, an ARM template export, a folder of pipelines, or a Git repository's root with "
        "the folder pipeline/ in it",
    )
    parser.add_argument(
        "--topic",
        metavar="URL",
        required=True,
        type=topic_endpoint.parse,
        help="the Event Grid topic's endpoint: https://…/api/events",
    )
    parser.add_argument(
        "--factory", metavar="ARM_ID", type=_factory, help="the data factory; without it, events carry its name only"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"write NAME{WRAPPER_SUFFIX}.json files there")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="write nothing: compare with what stands in --out")
    either.add_argument("--deploy", action="store_true", help="create or update the wrappers in the factory")
    parser.set_defaults(run=partial(_run, parser.error))


def _run(misuse: Callable[[str], Never], given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if given.check and given.out is None:
        misuse("--check needs --out DIR: what is to be compared")
    if given.deploy and given.factory is None:
        misuse("--deploy needs --factory ARM_ID: where to")
    if given.source.is_dir() and given.out is None and not given.deploy:
        misuse("a folder's wrappers need a place: --out DIR, or --deploy")
    deployment = _deployment(misuse, given.factory, environment) if given.deploy else None
    complaints = Complaints()
    if not topic_endpoint.is_expected(given.topic):
        complaints.warning(
            "--topic",
            f"{topic_endpoint.host_of(given.topic)} is none of Event Grid's hosts (….eventgrid.azure.net, .us, .cn): "
            "whatever is there would get the factory's tokens",
        )
    inputs = wrapping.read(given.source, complaints)
    wrappers = wrapping.wrap(inputs, complaints, topic=given.topic, factory=given.factory, advise=not given.check)
    if given.out is not None:
        alone = given.source.is_file() and len(inputs.sources) + len(inputs.left_out) <= 1
        expected = (
            None if alone or not inputs.complete else [wrapper_of(source.pipeline.name) for source in inputs.sources]
        )
        _to_folder(WrapperFolder(given.out), wrappers, expected, complaints, check=given.check)
    if deployment is not None:
        with closing(deployment()) as factory:
            _to_factory(factory, wrappers, complaints)
    if given.out is None and deployment is None:
        if len(wrappers) > 1:
            misuse("this file has several pipelines, so their wrappers need a place: --out DIR, or --deploy")
        for _, wrapper in wrappers:
            _show(text_of(wrapper))
    return NOT_ALL_DONE if complaints.any else DONE


def _show(text: str) -> None:
    """Print a file's content: UTF-8 and plain line ends, whatever the console's own are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _to_folder(
    folder: WrapperFolder,
    wrappers: Sequence[tuple[Source, dict[str, Any]]],
    expected: Sequence[str] | None,
    complaints: Complaints,
    *,
    check: bool,
) -> None:
    """Write or compare the wrappers. `expected` are the names of all there should be, if that is known."""
    for source, wrapper in wrappers:
        name, text = wrapper["name"], text_of(wrapper)
        if check:
            if (difference := folder.difference(name, text)) is not None:
                tell = complaints.warning if difference.layout_only else complaints.error
                tell(source, difference.text)
            continue
        try:
            print(f"{folder.write(name, text):<9}  {plain(name)}")
        except NotWrittenError as trouble:
            complaints.error(source, trouble)
    tell = complaints.error if check else complaints.warning
    for path, name in folder.twins([wrapper["name"] for _, wrapper in wrappers]):
        tell(path, f"for Data Factory this is the same pipeline as {plain(name)}: delete the file")
    for path in folder.orphans(expected) if expected is not None else ():
        tell(path, "the pipeline of this wrapper is gone: delete the file")


def _to_factory(
    deployment: Deployment, wrappers: Sequence[tuple[Source, dict[str, Any]]], complaints: Complaints
) -> None:
    for source, wrapper in wrappers:
        try:
            print(f"{deployment.put(wrapper['name'], wrapper['properties']):<9}  {plain(wrapper['name'])}", flush=True)
        except NotDeployedError as trouble:
            complaints.error(source, plain(trouble))
            if trouble.final:
                complaints.error(source, "nothing more was tried")
                return


def _deployment(
    misuse: Callable[[str], Never], factory: FactoryId, environment: Mapping[str, str]
) -> Callable[[], Deployment]:
    try:
        endpoint, token = config.load_adf(environment)
    except ConfigInvalid as problem:
        misuse(problem.detail)
    return partial(Deployment, factory, endpoint=endpoint, token=token)


def _source(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError("there is no such file or folder")
    return path


def _factory(text: str) -> FactoryId:
    try:
        return FactoryId.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
