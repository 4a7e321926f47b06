"""Secrets in command lines, texts, settings and code."""

from __future__ import annotations

import pytest

from mmctl import redact

HUB = "hf_" + "a1B2" * 6


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["run", "--token", "s3cr3t"], ["run", "--token", "***"]),
        (["run", "--token", "-s3cr3t", "x"], ["run", "--token", "***", "x"]),
        (["run", "--token=s3cr3t"], ["run", "--token=***"]),
        (["run", "--set", "a.token=s3cr3t with blanks"], ["run", "--set", "a.token=***"]),
        (["run", "--set", "dataset.api_key=s3cr3t"], ["run", "--set", "dataset.api_key=***"]),
        (["run", "--set", 'dataset={password="s3cr3t",size=3}'], ["run", "--set", "dataset={password=***,size=3}"]),
        (["run", "API-KEY=s3cr3t"], ["run", "API-KEY=***"]),
        (["run", "--key", "s3cr3t"], ["run", "--key", "***"]),
        (["run", "https://me:s3cr3t@host/x?a=1"], ["run", "https://***@host/x?a=1"]),
        (["run", "https://host/x?password=s3cr3t&a=1"], ["run", "https://host/x?password=***&a=1"]),
        (["run", "--note", f"with {HUB}"], ["run", "--note", "with ***"]),
        (["run", "--note", "Authorization: Bearer s3cr3ts3cr3t"], ["run", "--note", "Authorization: ***"]),
        (["run", "digits", "--set", "train.keep=3"], ["run", "digits", "--set", "train.keep=3"]),
        (["run", "recipes/token_mixing.toml"], ["run", "recipes/token_mixing.toml"]),
    ],
)
def test_command_lines(words: list[str], kept: list[str]) -> None:
    assert redact.command(words) == kept


@pytest.mark.parametrize("value", ['"open sesame now"', "'open, sesame'", "open-sesame", '"' + "x y" * 600 + '"'])
@pytest.mark.parametrize("name", ["password", "api_key", '"secret"', "access-key "])
def test_the_whole_value_goes(name: str, value: str) -> None:
    for sign in ("=", ": "):
        assert redact.text(f"failed with {name}{sign}{value}, try again") == f"failed with {name}{sign}***, try again"


def test_texts_without_secrets_stay() -> None:
    for text in ("unexpected token: x", 'unknown key: "colour"', "https://host/@user", "ssh key not found", "a@b.c"):
        assert redact.text(text) == text


def test_settings() -> None:
    secret = {
        "dataset": {"password": "p", "hub_token": "x" * 20, "url": "https://me:pw@host/x", "keys": [{"api_key": "k"}]},
        "note": HUB,
    }
    assert set(redact.in_settings(secret)) == {
        "dataset.password", "dataset.hub_token", "dataset.url", "dataset.keys.api_key", "note"
    }  # fmt: skip
    fine = {
        "backbone": {"token": "class", "class_token": True, "key": "k", "token_env": "HF_TOKEN"},
        "dataset": {"password": "$DATA_PASSWORD", "api_key": "", "url": "https://host/x"},
    }
    assert list(redact.in_settings(fine)) == []


def test_code() -> None:
    long = "x1" * 10
    for line in (f'TOKEN = "{long}"', f"login({HUB!r})", "url = 'https://me:pw@host/'", f'secretKey: "{long}"',
                 f'token_2 = "{long}"', f'tokens = "{long}"', f'password2 = "{long}"', "# Bearer " + long,
                 *(f"key('sk-{head}{long}{long}')" for head in ("", "proj-", "ant-api03-", "a_b-")),
                 "sk-lf-01234567-89ab-cdef-0123-456789abcdef"):  # fmt: skip
        assert redact.in_code(line), line
    for line in ("token = tokens[index]", 'password = os.environ["PASSWORD"]', "git@github.com:me/it", 'key = "ab"',
                 'tokenizer = "bert-base-uncased"', "# Bearer authentication", "/data/sk-learn-digits-2024-01-01x",
                 "sk-learn_digits_2024_01_01_of_all"):  # fmt: skip
        assert not redact.in_code(line), line
    assert list(redact.in_settings({"dataset": {"root": "/data/sk-learn-digits-2024-01-01x"}})) == []
    assert redact.text(f"with sk-ant-api03-{long}-{long}_ab, so") == "with ***, so"


def test_comments_of_toml() -> None:
    values = [
        'class_token = "averaged"',
        "a = 'x # y' ",
        'b = """\n# token = "averaged"\n\\""" """"',
        "c = '''\n# password = x''''",
        'd = "\\" # password=x"',
        "",
    ]
    for value in values:
        assert redact.comments(f"{value}\n") == f"{value}\n"
        hidden = redact.comments(f"{value}# password = x\n# https://me:pw@host\n[x]\n")
        assert hidden == f"{value}# password = ***\n# https://***@host\n[x]\n"
