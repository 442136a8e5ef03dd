"""`python -m bridge wrap` on the command line: what it reads, writes, compares, deploys and refuses."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from bridge import cli, config
from bridge.errors import ConfigInvalid
from tests.fakes.samples import ARM_ID

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ROOT / "tests/pipelines"
EXPORT = REPOSITORY / "ARMTemplateForFactory.json"
NAMES = sorted(
    json.loads(path.read_text(encoding="utf-8"))["name"] for path in (REPOSITORY / "pipeline").glob("*.json")
)
TOPIC = "https://runs.westeurope-1.eventgrid.azure.net/api/events"
TOKEN = "canary-adf-token"
ACTIVITIES = [{"name": "Work", "type": "Wait", "typeProperties": {"waitTimeInSeconds": 1}}]

Json = dict[str, Any]


def wrap(source: Path, *arguments: str, topic: str = TOPIC, **environment: str) -> int:
    """Call the command line."""
    return cli.main(["wrap", str(source), "--topic", topic, *arguments], environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pipelines of the fixtures, which a test may change."""
    return Path(shutil.copytree(REPOSITORY / "pipeline", tmp_path / "pipelines"))


def put(folder: Path, name: str, file: str | None = None, **properties: Any) -> Path:
    """Write a pipeline's file."""
    path = folder / f"{file or name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({"name": name, "properties": {"activities": ACTIVITIES, **properties}}), encoding="utf-8"
    )
    return path


def written(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- shown and written ------------------------------------------------------------------------------------------------


def test_one_pipeline_is_shown(folder: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """One pipeline's wrapper goes to standard output, as the very bytes that its file would have."""
    assert 0 == wrap(folder / "umsaetze.json")
    out = capsysbinary.readouterr().out
    assert 0 == wrap(folder / "umsaetze.json", "--out", str(folder / "out"))
    assert [out] == list(written(folder / "out").values())
    assert "Umsätze laden – täglich (EU), 日次__notified" == json.loads(out)["name"]


@pytest.mark.parametrize("source", [REPOSITORY, REPOSITORY / "pipeline"])
def test_a_folder_is_written(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A repository's root or a folder gives a file for each pipeline, of the wrapper's name."""
    out = tmp_path / "made/here"
    out.parent.mkdir()
    assert 0 == wrap(source, "--out", str(out))
    assert [f"{name}__notified.json" for name in NAMES] == list(written(out))
    assert [f"created    {name}__notified" for name in NAMES] == sorted(capsys.readouterr().out.splitlines())


def test_writing_again_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same pipelines give the same bytes; what is right already is not written again."""
    wrap(REPOSITORY, "--out", str(tmp_path))
    first = written(tmp_path)
    capsys.readouterr()
    (tmp_path / "secrets__notified.json").write_bytes(first["secrets__notified.json"].replace(b"svc", b"other"))
    assert 0 == wrap(REPOSITORY, "--out", str(tmp_path))
    assert first == written(tmp_path)
    told = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert {"updated": 1, "unchanged": len(NAMES) - 1} == {
        word: [first for first, _ in told].count(word) for word in ("updated", "unchanged")
    }


def test_wrappers_may_stand_next_to_the_pipelines(folder: Path) -> None:
    """What was generated is no input: reading and writing the same folder again changes nothing."""
    assert 0 == wrap(folder, "--out", str(folder))
    first = written(folder)
    assert (0, 0, first) == (
        wrap(folder, "--out", str(folder)),
        wrap(folder, "--out", str(folder), "--check"),
        written(folder),
    )


def test_an_export_is_written(tmp_path: Path) -> None:
    """An ARM template export gives the wrappers of all its pipelines."""
    assert 0 == wrap(EXPORT, "--factory", ARM_ID, "--out", str(tmp_path))
    assert ["copy_orders__notified.json", "customer's own__notified.json", "run_copy__notified.json"] == list(
        written(tmp_path)
    )
    assert f'\\"source\\":\\"{ARM_ID}\\"' in (tmp_path / "run_copy__notified.json").read_text(encoding="utf-8")


def test_what_passes_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad pipelines are told, all of them, with file and name; the good ones are written; the exit code is 1."""
    source, out = tmp_path / "in", tmp_path / "out"
    put(source, "good")
    put(source, "key", parameters={"bridge_key": {"type": "string"}})
    put(source, "many", parameters={f"p{number}": {"type": "string"} for number in range(50)})
    put(source, "TWIN", "twin_1")
    put(source, "twin", "twin_2")
    (source / "torn.json").write_text("{", encoding="utf-8")
    (source / "lake.json").write_text('{"name": "lake", "properties": {"type": "AzureBlobFS"}}', encoding="utf-8")
    assert 1 == wrap(source, "--out", str(out))
    assert ["good__notified.json"] == list(written(out))
    told = capsys.readouterr().err.splitlines()
    expected = [
        f"{source}/key.json: key: its parameter 'bridge_key'",
        f"{source}/lake.json: 'lake' has no properties.activities",
        f"{source}/many.json: many: it has 50 parameters; 49 are allowed",
        f"{source}/torn.json: is not JSON",
        f"{source}/twin_1.json: TWIN: another pipeline",
        f"{source}/twin_2.json: twin: another pipeline",
    ]
    assert expected == [one for one in expected if any(line.startswith(one) for line in told)]
    assert 6 == len(told)


def test_a_warning_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S34: a secret with a default is warned of, without the default, and the wrapper is made."""
    path = put(tmp_path, "keys", parameters={"key": {"type": "secureString", "defaultValue": "canary"}})
    assert 0 == wrap(path, "--out", str(tmp_path / "out"))
    err = capsys.readouterr().err
    assert (True, False) == (
        err.startswith(f"warning: {path}: keys: the secureString parameter 'key'"),
        "canary" in err,
    )


def test_lists_are_warned_of_where_they_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list among the parameters is told when the wrapper is made, with the exit code of success, not in CI."""
    path, out = put(tmp_path, "keys", parameters={"regions": {"type": "array"}}), str(tmp_path / "out")
    assert 0 == wrap(path, "--out", out)
    first = capsys.readouterr().err
    assert 0 == wrap(path, "--out", out, "--check")
    assert (True, "") == (first.startswith(f"warning: {path}: keys: 'regions'"), capsys.readouterr().err)


def test_a_publish_branch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder as Data Factory publishes it, template and values, is wrapped, and passes a check while it is right."""
    branch, out = tmp_path / "adf_publish", tmp_path / "out"
    branch.mkdir()
    shutil.copy(EXPORT, branch)
    values = branch / "ARMTemplateParametersForFactory.json"
    values.write_text('{"$schema": "…", "parameters": {"factoryName": {"value": "adf-demo"}}}', encoding="utf-8")
    assert 0 == wrap(branch, "--out", str(out))
    assert f"warning: {values}: holds no pipeline" in capsys.readouterr().err.splitlines()
    assert (3, 0) == (len(written(out)), wrap(branch, "--out", str(out), "--check"))
    put(out, "gone__notified", annotations=["adf-bridge"])
    assert 1 == wrap(branch, "--out", str(out), "--check")


def test_what_somebody_else_made_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the place of a wrapper that was not generated is left alone, and told."""
    source, out = tmp_path / "in", tmp_path / "out"
    put(source, "orders")
    own = put(out, "orders__notified", annotations=["mine"])
    content = own.read_bytes()
    assert 1 == wrap(source, "--out", str(out))
    assert content == own.read_bytes()
    assert f"{own} was not generated here" in capsys.readouterr().err


def test_a_pipeline_that_only_looks_like_a_wrapper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline of one's own whose name ends like a wrapper's is left out with a warning, and nothing replaces it."""
    put(tmp_path, "orders")
    put(tmp_path, "orders__notified")
    put(tmp_path, "other__Notified")
    assert 1 == wrap(tmp_path, "--out", str(tmp_path / "out"))
    told = capsys.readouterr().err.splitlines()
    assert [True, True, True] == [
        any(line.startswith(beginning) for line in told)
        for beginning in (
            f"{tmp_path}/orders.json: orders: there is a pipeline orders__notified that was not generated here",
            f"warning: {tmp_path}/orders__notified.json: orders__notified: left out",
            f"warning: {tmp_path}/other__Notified.json: other__Notified: left out",
        )
    ]


def test_no_pipeline_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without pipelines, as a wrong path would be, does not pass silently."""
    assert 1 == wrap(tmp_path, "--out", str(tmp_path / "out"))
    assert f"{tmp_path}: there is no pipeline to wrap\n" == capsys.readouterr().err


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrapper that cannot be written is told with its pipeline, in words."""
    path = put(tmp_path, "orders")
    assert 1 == wrap(path, "--out", str(path))
    assert (
        f"{path}: orders: {path}/orders__notified.json cannot be written (Not a directory)\n" == capsys.readouterr().err
    )


def test_names_stay_on_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S33: a name with line breaks or escape sequences forges no line of what is told."""
    put(tmp_path, "a\nb\x1b[31m", "a")
    assert 1 == wrap(tmp_path, "--out", str(tmp_path / "out"))
    err = capsys.readouterr().err
    assert (1, True) == (len(err.splitlines()), "a\\nb\\x1b[31m: its name holds" in err)


# --- compared ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def checked(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Pipelines, and their wrappers in a folder of their own."""
    out = tmp_path / "wrappers"
    assert 0 == wrap(folder, "--out", str(out))
    return folder, out


def check(checked: tuple[Path, Path]) -> int:
    """Compare, for CI."""
    return wrap(checked[0], "--out", str(checked[1]), "--check")


def test_nothing_differs(checked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrappers that are as they have to be pass, in silence, also if Git has given them other line ends."""
    path = checked[1] / "secrets__notified.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    capsys.readouterr()
    assert 0 == check(checked)
    assert ("", "") == capsys.readouterr()


def test_a_pipeline_has_changed(checked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline that got a parameter fails the check, which shows the difference and writes nothing."""
    before = written(checked[1])
    put(
        checked[0], "load_table", parameters={"options": {"type": "object", "defaultValue": {}}, "day": {"type": "int"}}
    )
    assert 1 == check(checked)
    err = capsys.readouterr().err
    assert (True, True, True) == (
        "load_table__notified.json differs\n  --- as it is\n  +++ as it has to be\n" in err,
        '  +                "type": "int"' in err or '  +            "day": {' in err,
        len(err.splitlines()) < 25,
    )
    assert before == written(checked[1])


def test_a_wrapper_is_missing(checked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrapper that is not there fails the check."""
    missing = checked[1] / "secrets__notified.json"
    missing.unlink()
    assert 1 == check(checked)
    assert f"{checked[0]}/secrets.json: secrets: {missing} is missing\n" == capsys.readouterr().err
    assert not missing.exists()


def test_a_pipeline_is_gone(checked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrapper whose pipeline is gone fails the check; writing only warns of it, and deletes nothing."""
    (checked[0] / "secrets.json").unlink()
    put(checked[1], "mine__notified")
    orphan = checked[1] / "secrets__notified.json"
    capsys.readouterr()
    assert 1 == check(checked)
    assert f"{orphan}: the pipeline of this wrapper is gone: delete the file\n" == capsys.readouterr().err
    assert 0 == wrap(checked[0], "--out", str(checked[1]))
    told = capsys.readouterr().err.splitlines()
    assert f"warning: {orphan}: the pipeline of this wrapper is gone: delete the file" == told[-1]
    assert all(line.startswith("warning: ") for line in told)
    assert orphan.exists()


def test_a_name_has_changed_its_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrapper whose name differs in case only from one that is made is told, and fails a check."""
    source, out = tmp_path / "in", tmp_path / "out"
    old = put(out, "Orders__Notified", annotations=["adf-bridge"])
    path = put(source, "orders")
    for one in (source, path):
        assert 0 == wrap(one, "--out", str(out))
        warned = capsys.readouterr().err
        assert 1 == wrap(one, "--out", str(out), "--check")
        said = f"{old}: for Data Factory this is the same pipeline as orders__notified: delete the file\n"
        assert (f"warning: {said}", said) == (warned, capsys.readouterr().err)


def laid_out_anew(path: Path) -> None:
    """Write a wrapper as an editor may: tabs, another order, no line end, and the fields that Data Factory adds."""
    document = json.loads(path.read_text(encoding="utf-8"))
    added: Json = {"lastPublishTime": "2026-03-01T00:00:00Z", "variables": {}}
    anew = {"properties": {**added, **document["properties"]}, "name": document["name"]}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(anew, indent="\t").encode())


def test_only_the_layout_differs(checked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrapper that says the same in another layout passes the check, with a warning."""
    path = checked[1] / "secrets__notified.json"
    laid_out_anew(path)
    capsys.readouterr()
    assert 0 == check(checked)
    assert (
        f"warning: {checked[0]}/secrets.json: secrets: {path} differs in its layout only\n" == capsys.readouterr().err
    )


@pytest.mark.parametrize(("kept", "now"), [("1", 1), (1, True), (False, 0), ([1], [True]), (None, "")])
def test_a_default_of_another_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: object, now: object
) -> None:
    """A default that changed its kind alone fails the check, and only that is shown, whatever the layout."""
    source, out = tmp_path / "in", tmp_path / "out"
    put(source, "orders", parameters={"n": {"type": "object", "defaultValue": {"a": kept}}})
    assert 0 == wrap(source, "--out", str(out))
    laid_out_anew(out / "orders__notified.json")
    put(source, "orders", parameters={"n": {"type": "object", "defaultValue": {"a": now}}})
    capsys.readouterr()
    assert 1 == wrap(source, "--out", str(out), "--check")
    err = capsys.readouterr().err
    shown = [line for line in err.splitlines() if line.startswith("  -  ")]
    assert (True, False) == (bool(shown), "activities" in err)


def test_one_pipeline_says_nothing_of_the_others(checked: tuple[Path, Path]) -> None:
    """Checking a single pipeline does not take the other wrappers for orphans."""
    assert 0 == wrap(checked[0] / "secrets.json", "--out", str(checked[1]), "--check")


def test_an_unreadable_file_makes_no_orphan(checked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """While a file cannot be read, no wrapper is said to be without its pipeline."""
    (checked[0] / "secrets.json").write_text("{", encoding="utf-8")
    assert 1 == check(checked)
    assert "is gone" not in capsys.readouterr().err


# --- deployed ---------------------------------------------------------------------------------------------------------


@dataclass
class _Asked:
    method: str
    path: str
    token: str | None
    body: Json | None


@dataclass
class _State:
    pipelines: dict[str, Json] = field(default_factory=dict)
    asked: list[_Asked] = field(default_factory=list)
    refusals: dict[str, tuple[int, object]] = field(default_factory=dict)


class DataFactory(HTTPServer):
    """A factory on this machine that keeps the pipelines that are put into it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = _State()

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead to it."""
        return {"BRIDGE_ADF_ENDPOINT": f"http://127.0.0.1:{self.server_port}", "BRIDGE_ADF_TOKEN": TOKEN}

    def methods(self) -> list[str]:
        """What it was asked, in order."""
        return [one.method for one in self.state.asked]


class _Handler(BaseHTTPRequestHandler):
    server: DataFactory

    def do_GET(self) -> None:
        self._handle(None)

    def do_PUT(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _handle(self, body: Json | None) -> None:
        path = urlsplit(self.path)
        assert "api-version=2018-06-01" == path.query
        factory, _, name = unquote(path.path).rpartition("/pipelines/")
        state = self.server.state
        state.asked.append(_Asked(self.command, factory, self.headers["Authorization"], body))
        status, answer = state.refusals.get(f"{self.command} {name}") or self._keep(name, body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _keep(self, name: str, body: Json | None) -> tuple[int, object]:
        state = self.server.state
        if body is not None:
            added: Json = {"lastPublishTime": "2026-03-01T00:00:00Z", "variables": {}, "policy": None}
            state.pipelines[name] = {**body["properties"], **added}
        if name not in state.pipelines:
            return 404, {"error": {"code": "PipelineNotFound", "message": "no"}}
        return 200, {"id": "…", "name": name, "type": "…", "etag": "…", "properties": state.pipelines[name]}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        """Say nothing."""


@pytest.fixture
def factory() -> Iterator[DataFactory]:
    """A factory, on a free port."""
    with DataFactory() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def deploy(factory: DataFactory, source: Path, *arguments: str) -> int:
    """Put the wrappers into the factory."""
    return wrap(source, "--factory", ARM_ID, "--deploy", *arguments, **factory.environment)


def test_deploying(factory: DataFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each wrapper is read, then put as it is, with the same token and address as the app's; then it is unchanged."""
    wrap(REPOSITORY, "--factory", ARM_ID, "--out", str(tmp_path))
    capsys.readouterr()
    assert 0 == deploy(factory, REPOSITORY)
    assert [f"created    {name}__notified" for name in NAMES] == sorted(capsys.readouterr().out.splitlines())
    assert ["GET", "PUT"] * len(NAMES) == factory.methods()
    assert {(ARM_ID, f"Bearer {TOKEN}")} == {(one.path, one.token) for one in factory.state.asked}
    expected = sorted(json.dumps(json.loads(content)["properties"]) for content in written(tmp_path).values())
    assert expected == sorted(json.dumps(one.body["properties"]) for one in factory.state.asked if one.body)
    factory.state.asked.clear()
    assert 0 == deploy(factory, REPOSITORY)
    assert [f"unchanged  {name}__notified" for name in NAMES] == sorted(capsys.readouterr().out.splitlines())
    assert ["GET"] * len(NAMES) == factory.methods()


def test_deploying_a_change(factory: DataFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrapper that differs is updated, also if only a null in a default differs."""
    for default in ({"a": None}, {}):
        path = put(tmp_path, "orders", parameters={"thing": {"type": "object", "defaultValue": default}})
        assert 0 == deploy(factory, path)
    assert ["created    orders__notified", "updated    orders__notified"] == capsys.readouterr().out.splitlines()
    assert {} == factory.state.pipelines["orders__notified"]["parameters"]["thing"]["defaultValue"]


def test_deploying_a_default_of_another_kind(
    factory: DataFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A default that changes from true to 1 is a change; one that only is written 1.0 is none."""
    for default in (True, 1, 1.0):
        path = put(tmp_path, "orders", parameters={"thing": {"type": "object", "defaultValue": default}})
        assert 0 == deploy(factory, path)
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert ["created", "updated", "unchanged"] == told


def test_what_somebody_else_deployed_stays(
    factory: DataFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipeline of a wrapper's name that was not generated is not overwritten; the others are deployed."""
    factory.state.pipelines["a__notified"] = {"activities": ACTIVITIES, "annotations": ["mine"]}
    put(tmp_path, "a")
    put(tmp_path, "b")
    assert 1 == deploy(factory, tmp_path)
    out, err = capsys.readouterr()
    assert ("created    b__notified\n", True, ["GET", "GET", "PUT"]) == (
        out,
        "the factory has a pipeline a__notified that was not generated here" in err,
        factory.methods(),
    )


@pytest.mark.parametrize(
    ("status", "code", "goes_on"),
    [
        (400, "BadRequest", True),
        (409, "Busy", True),
        (401, "ExpiredToken", False),
        (403, "AuthorizationFailed", False),
        (404, "ResourceNotFound", False),  # the factory: a pipeline that is not there yet is put
    ],
)
def test_refusals(
    factory: DataFactory, capsys: pytest.CaptureFixture[str], status: int, code: str, *, goes_on: bool
) -> None:
    """What Data Factory refuses is told with the pipeline; what would be refused for every pipeline ends it there."""
    error = {"error": {"code": code, "message": "the\nreason"}}
    factory.state.refusals["PUT customer's own__notified"] = status, error
    assert 1 == deploy(factory, EXPORT)
    out, err = capsys.readouterr()
    said = f"{EXPORT}: customer's own: Data Factory answered {status} {code}: the\\nreason\n"
    assert (True, goes_on, not goes_on) == (
        said in err,
        "created    run_copy__notified" in out,
        "nothing more was tried" in err,
    )
    assert TOKEN not in out + err


def test_an_endpoint_that_is_none(factory: DataFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is no Data Factory is told so, without a trace."""
    factory.state.refusals["GET a__notified"] = (200, b"<html>")
    put(tmp_path, "a")
    assert 1 == deploy(factory, tmp_path)
    assert (True, ["GET"]) == (f"{tmp_path}/a.json: a: " in capsys.readouterr().err, factory.methods())


def test_written_and_deployed(factory: DataFactory, tmp_path: Path) -> None:
    """The same call may write and deploy."""
    assert 0 == deploy(factory, put(tmp_path, "a"), "--out", str(tmp_path / "out"))
    assert (["a__notified.json"], ["a__notified"]) == (list(written(tmp_path / "out")), list(factory.state.pipelines))


def test_settings_that_deploying_needs() -> None:
    """The endpoint and the token are read as the app reads them: a fixed token only goes to this machine."""
    assert "https://management.azure.com" == config.load_adf({})[0]
    with pytest.raises(ConfigInvalid) as refused:
        config.load_adf({"BRIDGE_ADF_ENDPOINT": "https://management.azure.com", "BRIDGE_ADF_TOKEN": TOKEN})
    assert (["BRIDGE_ADF_TOKEN"], False) == ([one.field for one in refused.value.errors], TOKEN in str(refused.value))


# --- called wrongly ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["wrap"],
        ["wrap", str(EXPORT)],
        ["wrap", str(EXPORT), "--topic", TOPIC],
        ["wrap", str(REPOSITORY), "--topic", TOPIC],
        ["wrap", str(REPOSITORY), "--topic", TOPIC, "--check"],
        ["wrap", str(REPOSITORY), "--topic", TOPIC, "--deploy"],
        ["wrap", str(REPOSITORY), "--topic", TOPIC, "--out", "x", "--check", "--deploy", "--factory", ARM_ID],
        ["wrap", str(REPOSITORY / "missing"), "--topic", TOPIC, "--out", "x"],
        ["wrap", str(EXPORT), "--topic", TOPIC, "--out", "x", "--factory", "adf-demo"],
        ["wrap", str(EXPORT), "--topic", TOPIC, "--out", "x", "--fac", ARM_ID],
        *[
            ["wrap", str(EXPORT), "--out", "x", "--topic", topic]
            for topic in (
                "runs",
                "http://runs.westeurope-1.eventgrid.azure.net/api/events",
                "https://runs.westeurope-1.eventgrid.azure.net",
                "https://runs.westeurope-1.eventgrid.azure.net/api/events/",
                f"{TOPIC}?aeg-sas-key=canary",
                f"{TOPIC}#x",
                "https://user:canary@runs.westeurope-1.eventgrid.azure.net/api/events",
                "https://runs:x/api/events",
                "https://ru{ns}/api/events",
                "https://runs/@{x}/api/events",
                "ftp://runs/api/events",
                "https://T.REGION-1.eventgrid.azure.net/api/events",
                "https://runs.REGION-1.eventgrid.azure.net/api/events",
                "https://TOPIC.westeurope-1.eventgrid.azure.net/api/events",
                "https://runs.eventgrid.azure.net/api/events",
                "https://eventgrid.azure.us/api/events",
                "https://.westeurope-1.eventgrid.azure.net/api/events",
            )
        ],
    ],
)
def test_called_wrongly(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """S37: what cannot be meant, or would put a key into a pipeline, is refused with exit code 2."""
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments, {})
    out, err = capsys.readouterr()
    assert (2, "", True, False) == (exited.value.code, out, "error: " in err, "canary" in err)


def test_deploying_with_wrong_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that are wrong are a wrong call, and no secret is told."""
    with pytest.raises(SystemExit) as exited:
        wrap(put(tmp_path, "a"), "--factory", ARM_ID, "--deploy", BRIDGE_ADF_TOKEN=TOKEN)
    err = capsys.readouterr().err
    assert (2, True, False) == (exited.value.code, "BRIDGE_ADF_TOKEN" in err, TOKEN in err)


def test_topics_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """A topic of the local Event Grid is taken: http, a port, a path of its own before /api/events."""
    assert 0 == wrap(REPOSITORY / "pipeline/secrets.json", topic="http://127.0.0.1:4711/runs/api/events")
    assert "" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("runs.westeurope-1.eventgrid.azure.net", False),
        ("Runs.westeurope-1.eventgrid.azure.net:443", False),
        ("runs.usgovvirginia-1.eventgrid.azure.us", False),
        ("runs.chinaeast2-1.eventgrid.azure.cn", False),
        ("runs.westeurope-1.eventgrid.azur.net", True),
        ("eventgrid.azure.net.example.com", True),
        ("runs", True),
    ],
)
def test_topics_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, *, warned: bool) -> None:
    """A host that is none of Event Grid's, to which a factory would send its token, is warned of."""
    assert 0 == wrap(put(tmp_path, "orders"), topic=f"https://{host}/api/events")
    said = f"warning: --topic: {host} is none of Event Grid's hosts"
    assert warned is capsys.readouterr().err.startswith(said)


def test_the_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells what the exit codes mean."""
    with pytest.raises(SystemExit) as exited:
        cli.main(["wrap", "--help"], {})
    assert (0, True) == (exited.value.code, "exit codes: 0 all is done; 1 something" in capsys.readouterr().out)
