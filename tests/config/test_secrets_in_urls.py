"""A recipe is logged, so an address in it must not hold a key."""

import pytest
from pydantic import TypeAdapter, ValidationError

from evertune.config.base import Url

ADDRESS = TypeAdapter(Url)


@pytest.mark.parametrize(
    "url",
    [
        "https://x.blob.core.windows.net/c/t?sv=2024&sig=abc%2F",
        "https://host/path?api_key=abc",
        "https://host/path?apikey=abc",
        "https://host/path?key=abc",
        "https://host/path#access_token=abc",
        "https://ghp_abcdef@github.com/o/r",
        "s3://b/k?X-Amz-Signature=abc",
        "postgresql://u:word@host/db",
        "mssql+pyodbc:///?odbc_connect=Server%3Dx%3BPWD%3Dabc",
    ],
)
def test_a_key_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValidationError, match="contains a password"):
        ADDRESS.validate_python(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/path?api_key=${KEY}",
        "https://${TOKEN}@github.com/o/r",
        "postgresql://user@host:5432/db",
        "postgresql://user:${PASSWORD}@host/db?sslmode=require",
        "abfss://container@account.dfs.core.windows.net/table",
        "data/rows@2024?part=1",
        "https://host/path?sort=signal&keyboard=us",
    ],
)
def test_an_address_without_one_is_kept(url: str) -> None:
    assert ADDRESS.validate_python(url) == url
