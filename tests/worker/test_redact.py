"""A canary in every place a secret can stand, and every way a text leaves the process: none comes
out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from gpu_worker_processors import redact

CANARY = "CANARY0123456789"
URL = f"https://user:{CANARY}@acct.r2.cloudflarestorage.com/media/in.mp4?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}#{CANARY}"

LEAKS = {
    "url": f"GET {URL} failed",
    "url in quotes": f"url='{URL}'",
    "url in JSON": json.dumps({"input_url": URL}),
    "url with escaped ampersand": URL.replace("&", "\\u0026"),
    "two urls": f"{URL},{URL}",
    "request line as urllib3 logs it": (
        f'https://host:443 "GET /in.mp4?X-Amz-Date=1&X-Amz-Signature={CANARY} HTTP/1.1" 206'
    ),
    "bare query": (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={CANARY}%2Fauto&X-Amz-Signature={CANARY}"
    ),
    "encoded query": f"redirect=X-Amz-Signature%3D{CANARY}",
    "parameters as a dict": str({"X-Amz-Signature": CANARY, "x-amz-security-token": CANARY}),
    "google": f"X-Goog-Signature={CANARY}",
    "version 2": f"?AWSAccessKeyId={CANARY}&Expires=1&Signature={CANARY}",
    "bearer": f"Authorization: Bearer {CANARY}abc.def",
    "basic": f"authorization: basic {CANARY}==",
    "api key": f"api_key={CANARY}",
    "runpod key": f"using rpa_{CANARY} here",
    "hugging face key": f"hf_{CANARY}abcdefgh",
    "userinfo alone": f"redis://:{CANARY}@cache/0",
    "fragment alone": f"https://host/in.mp4#{CANARY}",
}


@pytest.mark.parametrize("text", LEAKS.values(), ids=LEAKS)
def test_scrub_leaves_no_canary(text: str) -> None:
    clean = redact.scrub(text)
    assert CANARY not in clean
    assert redact.MASK in clean or "user:" not in clean
    assert redact.scrub(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "job 7: 12 of 100 frames",
        "https://acct.r2.cloudflarestorage.com/media/in.mp4",
        "X-Amz-Expires is over 7 days (604800 seconds)",
        '{"code":"url_denied","details":{"path":"output_url","missing_headers":["x-amz-meta-a"]}}',
        "C:\\temp\\a.mp4 and /tmp/in.mp4?no",
        "the token at index 12 is not allowed",
    ],
)
def test_scrub_leaves_ordinary_text_alone(text: str) -> None:
    assert redact.scrub(text) == text


def test_scrubbed_json_is_still_json() -> None:
    text = json.dumps({"message": f"see {URL}", "details": {"X-Amz-Signature": CANARY, "n": 1}})
    assert json.loads(redact.scrub(text))["details"]["n"] == 1


def test_secrets_of_the_environment_are_found_by_name() -> None:
    env = {
        "RUNPOD_AI_API_KEY": "short-and-plain",
        "HF_TOKEN": "another one",
        "PATH": "/usr/bin",
        "KEY": "abc",
    }
    assert redact.secret_values(env) == ("short-and-plain", "another one")


@pytest.fixture
def installed() -> Iterator[None]:
    factory, hook, thread_hook = logging.getLogRecordFactory(), sys.excepthook, threading.excepthook
    levels = {name: logging.getLogger(name).level for name in redact.CHATTY_LOGGERS}
    redact.install({"MY_SECRET": "plain-secret-value"})
    yield
    redact.install({})
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.setLogRecordFactory(factory)
    sys.excepthook, threading.excepthook = hook, thread_hook


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler that knows nothing of redaction writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("test.redact")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)


def test_install_covers_messages_arguments_tracebacks_and_stacks(
    installed: None, written: io.StringIO
) -> None:
    logger = logging.getLogger("test.redact")
    logger.info("fetching %s with %s", URL, {"token": "plain-secret-value"})
    logger.debug("100 %% of %(url)s", {"url": URL})
    logger.debug("a stack", stack_info=True)  # such as X-Amz-Signature=CANARY0123456789
    logger.warning("a percent sign %d", URL)  # does not fit: must neither raise nor leak
    try:
        try:
            raise ValueError(f"inner {URL}")
        except ValueError as inner:
            raise RuntimeError(f"outer {URL} plain-secret-value") from inner
    except RuntimeError:
        logger.exception("failed for %s", URL)
    text = written.getvalue()
    assert CANARY not in text
    assert "plain-secret-value" not in text
    assert "fetching https://acct.r2.cloudflarestorage.com/media/in.mp4?[redacted]" in text
    assert "RuntimeError: outer" in text
    assert "ValueError: inner" in text
    assert "such as X-Amz-Signature=[redacted]" in text


def test_a_filter_cleans_one_handler(written: io.StringIO) -> None:
    logger = logging.getLogger("test.redact")
    logger.handlers[0].addFilter(redact.RedactingFilter())
    logger.error("fetching %s", URL)
    assert CANARY not in written.getvalue()
    assert "fetching https://" in written.getvalue()


def test_u22_a_chatty_client_at_debug_level_prints_no_canary() -> None:
    """A whole process: DEBUG everywhere, streams wrapped, a failing requests call, uncaught errors
    in a thread and in main."""
    program = f"""
import logging, sys, threading
from gpu_worker_processors import redact
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
redact.install({{"SOME_TOKEN": "plain-secret-value"}}, streams=True)
import requests
url = "http://127.0.0.1:9/in.mp4?X-Amz-Signature={CANARY}"
print("printed", url, "plain-secret-value")
try:
    requests.get(url, timeout=1)
except requests.ConnectionError:
    logging.exception("could not fetch %s", url)
thread = threading.Thread(target=lambda: 1 / len([]) if not url else int(url))
thread.start(); thread.join()
raise RuntimeError(f"uncaught {{url}} plain-secret-value")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "printed http://127.0.0.1:9/in.mp4?[redacted]" in done.stdout
    assert "RuntimeError: uncaught" in done.stderr
    assert "invalid literal for int()" in done.stderr
    for stream in (done.stdout, done.stderr):
        assert CANARY not in stream
        assert "plain-secret-value" not in stream
