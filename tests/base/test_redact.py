"""No spelling of a secret is written down, and nothing else is changed."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.base.redact import Redactor

SECRET = 'sk-"Zx9/é+q w\\8&'  # noqa: S105  made up: every character that some encoding changes
MARK = "[redacted:API_KEY]"


@pytest.fixture
def redactor() -> Redactor:
    return Redactor.from_environ({"API_KEY": SECRET})


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "GITHUB_TOKEN",
        "GH_PAT",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "MYSQL_PWD",
        "PGPASSWORD",
        "NPMTOKEN",
        "OPENAI_APIKEY",
        "SENTRY_DSN",
        "SESSION",
        "SESSION_COOKIE",
        "BASIC_AUTH",
        "GOOGLE_CREDENTIALS",
        "SSH_PRIVATE_KEY",
        "DEPLOY_KEY2",
        "apiKey",
        "npm_config_//registry.example.com/:_authToken",
    ],
)
def test_values_of_secret_looking_names_are_replaced(name: str) -> None:
    assert "hunter2hunter2" not in Redactor.from_environ({name: "hunter2hunter2"}).redact(
        "it is hunter2hunter2."
    )


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "PWD",
        "OLDPWD",
        "SSH_AUTH_SOCK",
        "KEYBOARD",
        "KEYBOARD_LAYOUT",
        "MONKEY_NAME",
        "AUTHOR",
        "GIT_AUTHOR_NAME",
        "XAUTHORITY",
        "COMPASS",
        "TOKENIZER",
        "DESKTOP_SESSION",
        "XDG_SESSION_TYPE",
        "GOOGLE_CREDENTIALS_FILE",
        "AUTH_PROVIDER",
        "___",
    ],
)
def test_values_of_other_names_stay(name: str) -> None:
    assert Redactor.from_environ({name: "hunter2hunter2"}).redact("hunter2hunter2") == (
        "hunter2hunter2"
    )


def test_names_given_as_extra_are_secret() -> None:
    redactor = Redactor.from_environ({"WIDGET": "hunter2hunter2"}, extra=["WIDGET"])
    assert redactor.redact("hunter2hunter2") == "[redacted:WIDGET]"


def test_passwords_inside_urls_are_secret_whatever_the_name() -> None:
    redactor = Redactor.from_environ({"DATABASE_URL": "postgres://app:p%40ssw0rd99@db/x"})
    assert redactor.redact("p%40ssw0rd99 p@ssw0rd99 db") == (
        "[redacted:DATABASE_URL] [redacted:DATABASE_URL] db"
    )


@pytest.mark.parametrize("value", ["", "short", " 1234567 \n", "y"])
def test_values_under_eight_characters_stay(value: str) -> None:
    """They occur in ordinary text, where replacing them would only do damage."""
    assert Redactor.from_environ({"API_KEY": value}).redact(f"a{value}b") == f"a{value}b"


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(SECRET)[1:-1])[1:-1],
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").replace("%C3%A9", "%c3%a9").lower().replace("zx9", "Zx9"),
        quote_plus(SECRET),
    ],
)
def test_every_spelling_is_replaced(redactor: Redactor, spelling: str) -> None:
    assert redactor.redact(f"<{spelling}>") == f"<{MARK}>"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_text_around_the_secret_is_replaced(before: str, encode: object) -> None:
    """Basic authentication encodes 'user:secret', at any of three alignments."""
    assert callable(encode)
    redactor = Redactor({"API_KEY": "s3cr3t~~value??"})
    encoded = encode(f"{before}s3cr3t~~value??:after".encode()).decode()
    assert MARK in redactor.redact(encoded)
    assert encoded[6:14] not in redactor.redact(encoded)


def test_lines_of_a_key_file_are_replaced_one_by_one() -> None:
    lines = [
        "-----BEGIN-----",
        "MIIEvQIBADANBgkqhkiG9w0B",
        "AQEFAASCBKcwggSjAgEAAoIB",
        "-----END-----",
    ]
    pem = "\n".join(lines)
    redactor = Redactor({"PRIVATE_KEY": pem})
    assert redactor.redact("got MIIEvQIBADANBgkqhkiG9w0B") == "got [redacted:PRIVATE_KEY]"


def test_a_trailing_newline_in_the_variable_does_not_hide_the_secret() -> None:
    assert Redactor({"API_KEY": "hunter2hunter2\n"}).redact("hunter2hunter2") == MARK


def test_the_longer_of_two_nested_secrets_is_replaced_whole() -> None:
    redactor = Redactor({"A_KEY": "abcdefgh", "B_KEY": "abcdefgh12345678"})
    assert redactor.redact("abcdefgh12345678 abcdefgh") == "[redacted:B_KEY] [redacted:A_KEY]"


def test_it_counts_what_it_replaced_and_shows_no_value(redactor: Redactor) -> None:
    redactor.redact(f"{SECRET} {SECRET}")
    redactor.redact(json.dumps({"a": [SECRET]}))
    redactor.redact("nothing")
    assert redactor.count == 3
    assert repr(redactor) == "Redactor(1 secrets)"


def test_json_keeps_its_layout_and_its_other_values(redactor: Redactor) -> None:
    text = '{"a" : 1.50, "b":["x\\n", "' + json.dumps(SECRET)[1:-1] + '"],\n "c": 1e5}'
    assert redactor.redact(text) == '{"a" : 1.50, "b":["x\\n", "' + MARK + '"],\n "c": 1e5}'


@pytest.mark.parametrize(
    ("secret", "value", "expected"),
    [
        ("nabcdefgh", {"a": "\nabcdefgh"}, {"a": "\nabcdefgh"}),  # straddles an escape
        ('", "b": "', {"a": "x", "b": "y"}, {"a": "x", "b": "y"}),  # straddles two strings
        ("12345678", {"pin": 12345678}, {"pin": MARK}),  # a bare number
        ("12345678", {"n": 123456789}, {"n": 123456789}),  # part of another number
        ("experiment", {"experiment": 1}, {"experiment": 1}),  # a record's field name
        ("s3cr3t-key", {"s3cr3t-key": "x"}, {MARK: "x"}),
        ("\udcff-not-utf8", {"a": "\udcff-not-utf8"}, {"a": MARK}),
    ],
)
def test_json_stays_json(secret: str, value: object, expected: object) -> None:
    for layout in (None, 2):
        text = json.dumps(value, indent=layout)
        assert json.loads(Redactor({"API_KEY": secret}).redact(text)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\/\né1'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='ab"\\\n1'), inner),
)


@settings(deadline=None, max_examples=50)  # the machine may be busy
@given(value=JSON, secret=st.text(alphabet='ab"\\/\né1', min_size=8, max_size=9))
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_json_stays_json_and_loses_the_secret(
    ascii_only: bool,  # noqa: FBT001  pytest passes it by name
    value: object,
    secret: str,
) -> None:
    text = json.dumps([value, f"-{secret}-"], ensure_ascii=ascii_only)
    redacted = json.loads(Redactor({"API_KEY": secret}).redact(text))
    assert len(secret.strip()) < 8 or secret not in redacted[1]
