"""What is secret in an address is not told, and whom an address may ask."""

import pytest

from pipeline.addresses import check_host, public, query_digest, redacted
from pipeline.errors import InputError

SIGNED = "https://user:hush@example.invalid/a/b.tif?X-Amz-Signature=hush&id=7&weird=hush"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (SIGNED, "https://example.invalid/a/b.tif"),
        (f"/vsicurl/{SIGNED}", "/vsicurl/https://example.invalid/a/b.tif"),
        ("http://a@b:c@example.invalid/?", "http://example.invalid/"),
        ("HTTPS://u:p@example.invalid/a?b", "HTTPS://example.invalid/a"),
        ("s3://key:secret@bucket/a.tif", "s3://bucket/a.tif"),
        ("folder/what?#&=1.tif", "folder/what?#&=1.tif"),
    ],
)
def test_an_address_is_shown_without_its_secrets(path, shown):
    """And a file's name is left alone, whatever it holds."""
    assert public(path) == shown


@pytest.mark.parametrize(
    "text",
    [
        f"cannot open {SIGNED}: no",
        f"'/vsicurl/{SIGNED}' does not exist",
        f'{{"message": "{SIGNED}", "level": "error"}}',
        "b.tif?weird=hush&token=hush band 1: IReadBlock failed",
        "http://u:(hush)'@example.invalid/a",
        "see http://example.invalid/a?hush",
        "token=hush, AWS_SECRET_ACCESS_KEY=hush; password=hush sig=hush",
    ],
)
def test_a_text_loses_the_secrets_of_its_addresses(text):
    """However an address got into it: whole, in quotes, in JSON, or its last part alone, as GDAL does."""
    assert "hush" not in redacted(text)


def test_a_text_without_secrets_stays_as_it_is():
    """Tracebacks and JSON can be read as before."""
    text = 'File "/a/b.py", line 3: is it {"x": "what? no", "input": "https://example.invalid/a.tif"}'
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("id=7&X-Amz-Signature=a&X-Amz-Date=1", "X-Amz-Date=2&id=7&X-Amz-Signature=b", True),
        ("se=2026-01-01&sp=r&sig=a", "se=2027-01-01&sp=r&sig=b", True),
        ("access_token=a", "", True),
        ("id=7", "id=8", False),
        ("id=7", "", False),
    ],
)
def test_a_new_signature_asks_for_the_same_raster(one, other, same):
    """Another id asks for another one; the order of a query means nothing."""
    digests = [query_digest(f"https://example.invalid/get?{query}") for query in (one, other)]
    assert (digests[0] == digests[1]) == same


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.1.1:80", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518"),
        *("[fe80::1]", "[fe80::1%25eth0]", "[fd00:ec2::254]", "[FD00:EC2:0:0::254]", "[::ffff:169.254.169.254]"),
        *("169.254.169.254#@example.invalid", "169.254.169.254?@example.invalid", "metadata.google.internal."),
        *("metadata.google.internal", "METADATA.google.internal.", "u:p@169.254.169.254", "100.100.100.200"),
    ],
)
@pytest.mark.parametrize("scheme", ["http://", "https://", "/vsicurl/http://"])
def test_addresses_that_hand_out_credentials_are_never_asked(scheme, host):
    """However their number is written, with leave for other hosts or without."""
    with pytest.raises(InputError, match="this machine's cloud") as caught:
        check_host(f"{scheme}{host}/latest/meta-data")
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["%31%36%39.254.169.254", "a@b@169.254.169.254", "169。254。169。254", "", "h\\@x", "a b"]
)
def test_a_host_is_written_in_plain_letters(host):
    """What curl decodes or folds into another name could not be checked."""
    with pytest.raises(InputError, match="no host in plain letters"):
        check_host(f"http://{host}/a.tif")


@pytest.fixture
def looked_up(monkeypatch):
    """The names that are looked up, none of which is found."""
    names = []

    def look(name, *_):
        names.append(name)
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", look)
    return names


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://127.0.0.1:80/a", "127.0.0.1"),
        ("https://example.invalid/a", "example.invalid"),
        ("http://u:p@[::1]:80/a?b", "::1"),
    ],
)
def test_other_hosts_may_be_asked(address, host, looked_up):
    """Also one that this machine cannot find: a proxy may. Its name alone is looked up."""
    check_host(address)
    assert looked_up == [host]


def test_object_stores_have_no_host_to_check(looked_up):
    """Their endpoint is the user's choice, in the environment."""
    for address in ("s3://bucket/http.tif", "/vsis3/bucket/http://x"):
        check_host(address)
    assert looked_up == []


def test_a_name_that_leads_to_such_an_address_is_told(monkeypatch):
    """Anybody may give a name to the number of a cloud's credentials."""
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [(0, 0, 0, "", ("169.254.169.254", 0))])
    with pytest.raises(InputError, match="this machine's cloud"):
        check_host("http://harmless.invalid/a.tif")
