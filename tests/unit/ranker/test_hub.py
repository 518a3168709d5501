"""Models on the hub: the real client of huggingface_hub against a small local hub."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from finrank import Ranker
from finrank.errors import UserError
from finrank.export.export_model import export_model
from finrank.ranker.choosing.confidence import CONFIDENCE, save_confidence
from tests.helpers.saved_ranker import POOL, fitted, save_tiny_ranker


class StubHub(ThreadingHTTPServer):
    """The part of the hub's HTTP interface that creates, commits to and fetches a small model repository."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.tokens: set[str | None] = set()
        self.fetched: list[str] = []
        self.refuse = False


class _Handler(BaseHTTPRequestHandler):
    server: StubHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.partition("?")[0].split("/")[2:]:
            case ["repos", "create"] if self.server.refuse:
                self._reply({"error": "forbidden"}, 403)
            case ["repos", "create"]:
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                self.server.repositories.setdefault(name, {})
                self.server.private[name] = asked.get("private", asked.get("visibility") == "private")
                self._reply({"url": f"http://{self.headers['Host']}/{name}"})
            case ["models", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                self._reply({"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]})
            case ["models", owner, name, "commit", _]:
                stored = self.server.repositories[f"{owner}/{name}"]
                for value in map(json.loads, body.splitlines()):
                    match value:
                        case {"key": "header", "value": {"summary": summary}}:
                            self.server.messages.append(summary)
                        case {"key": "file", "value": {"path": path, "content": content}}:
                            stored[path] = base64.b64decode(content)
                        case {"key": "deletedFile", "value": {"path": path}}:
                            del stored[path]
                url = f"http://{self.headers['Host']}/{owner}/{name}/commit/{'0' * 40}"
                self._reply({"success": True, "commitOid": "0" * 40, "commitUrl": url})
            case _:  # the card's header is checked
                self._reply({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        owner, name, *rest = self.path.partition("?")[0].removeprefix("/api/models").strip("/").split("/")
        files = self.server.repositories.get(f"{owner}/{name}")
        match rest:
            case _ if files is None:
                self._reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            case ["revision", "main"]:
                sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
                siblings = [{"rfilename": file} for file in sorted(files)]
                self._reply({"id": f"{owner}/{name}", "sha": sha, "siblings": siblings})
            case ["revision", _]:
                self._reply({"error": "no revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
            case ["tree", _]:
                self._reply([{"type": "file", "path": file, "size": len(files[file]), "oid": "0"} for file in files])
            case ["resolve", revision, *parts]:
                file = "/".join(parts)
                self.server.fetched.append(file)
                etag = hashlib.sha1(files[file]).hexdigest()
                self._reply(files[file], 200, {"ETag": f'"{etag}"', "X-Repo-Commit": revision})
            case _:
                self._reply({"error": self.path}, 404)

    do_HEAD = do_GET

    def _reply(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubHub]:
    server = StubHub()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_ranker(tmp_path_factory.mktemp("hub"))
    (folder / "README.md").write_text("# a card\n")
    save_confidence(folder, fitted())
    return folder


def test_what_is_pushed_is_loaded_by_its_id(
    hub: StubHub, model_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = Ranker.from_pretrained(model_dir, device="cpu")
    ranker.push_to_hub("someone/ranker", private=True, commit_message="the first", token="hf_secret")
    assert (hub.messages, hub.private) == (["the first"], {"someone/ranker": True})
    assert hub.tokens == {"Bearer hf_secret"}
    assert "the base weights are a local folder" in capsys.readouterr().err
    expected = {path.name for path in model_dir.iterdir()}
    assert {"README.md", CONFIDENCE, "score_head.safetensors"} < expected
    assert set(hub.repositories["someone/ranker"]) == expected
    hub.repositories["someone/ranker"]["training.pickle"] = b"never fetched"
    loaded = Ranker.from_pretrained("someone/ranker", device="cpu", token="hf_secret")
    assert set(hub.fetched) == expected
    assert loaded.rank(**POOL) == ranker.rank(**POOL)
    assert loaded.confidence == ranker.confidence
    # Without a network the cache is enough.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert Ranker.from_pretrained("someone/ranker", device="cpu").rank(**POOL) == ranker.rank(**POOL)
    with pytest.raises(UserError, match="cannot be reached"):
        Ranker.from_pretrained("someone/other")


def test_a_model_with_its_base_inside_takes_it_along(
    hub: StubHub, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = Ranker.from_pretrained(model_dir, device="cpu").rank(**POOL)
    export_model(model_dir, "finrank", tmp_path / "whole")
    ranker = Ranker.from_pretrained(tmp_path / "whole", device="cpu")
    ranker.push_to_hub("someone/whole")
    ranker.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "whole")
    assert "stay here" not in capsys.readouterr().err
    assert {"base/config.json", "base/model.safetensors"} < set(hub.repositories["someone/whole"])
    hub.repositories["someone/whole"]["base/model.pickle"] = b"never fetched"
    for place in ("someone/whole", tmp_path / "saved"):
        answers = Ranker.from_pretrained(place, device="cpu").rank(**POOL)
        assert [answer.score for answer in answers] == pytest.approx([answer.score for answer in expected], abs=1e-5)
    assert "base/model.pickle" not in hub.fetched


def test_pushing_again_leaves_no_confidence_of_other_weights(hub: StubHub, model_dir: Path, tmp_path: Path) -> None:
    ranker = Ranker.from_pretrained(model_dir, device="cpu")
    ranker.push_to_hub("someone/ranker")
    assert CONFIDENCE in hub.repositories["someone/ranker"]
    ranker.save_pretrained(tmp_path / "plain")
    assert (tmp_path / "plain" / "README.md").read_text() == "# a card\n"
    (tmp_path / "plain" / CONFIDENCE).unlink()
    Ranker.from_pretrained(tmp_path / "plain", device="cpu").push_to_hub("someone/ranker")
    assert CONFIDENCE not in hub.repositories["someone/ranker"]
    assert Ranker.from_pretrained("someone/ranker", device="cpu").confidence is None


def test_what_is_unavailable_says_what_to_do(hub: StubHub, model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"outputs/run_009 (.|\n)*export HF_TOKEN"):
        Ranker.from_pretrained("outputs/run_009")
    ranker = Ranker.from_pretrained(model_dir, device="cpu")
    ranker.push_to_hub("someone/ranker")
    with pytest.raises(UserError, match="another revision than v2"):
        Ranker.from_pretrained("someone/ranker", revision="v2")
    with pytest.raises(UserError, match="leave out revision v2"):
        Ranker.from_pretrained(model_dir, revision="v2")
    del hub.repositories["someone/ranker"]["score_head.safetensors"]
    with pytest.raises(UserError, match=r"score_head[.]safetensors missing"):
        Ranker.from_pretrained("someone/ranker")
    hub.refuse = True
    with pytest.raises(UserError, match=r"someone/ranker cannot(.|\n)*export HF_TOKEN"):
        ranker.push_to_hub("someone/ranker")
    with pytest.raises(UserError, match="cannot be uploaded"):
        ranker.push_to_hub("not/an/id")
