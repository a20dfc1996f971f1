"""Addresses as people write them. Not covered: listening there (tests/api/test_http.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.address import Address, address

hosts = st.ip_addresses().map(str) | st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True)


@given(hosts, st.integers(0, 65535))
def test_what_is_written_is_read_back(host: str, port: int):
    told = Address(host, port)
    assert address(str(told)) == told


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.from_regex(r"[\[0-9a-f:.\]]*:\d*"))
def test_anything_is_an_address_or_a_sentence(value: object):
    try:
        told = address(value)
    except ValueError as error:
        said = str(error)
    else:
        said = f"must be HOST:PORT and is {told}"
        assert 0 <= told.port <= 65535
    assert said.startswith("must be HOST:PORT")


@pytest.mark.parametrize("text", ["8765", ":8765", "127.0.0.1:8765", " 127.0.0.1:8765 ", 8765])
def test_a_port_alone_is_on_this_machine(text: object):
    assert address(text) == Address("127.0.0.1", 8765)


@pytest.mark.parametrize(
    ("text", "local"),
    [("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False), ("[::]:1", False),
     ("board:1", False), ("192.168.0.2:1", False), ("[::ffff:192.0.2.1]:1", False)],
)  # fmt: skip
def test_who_can_reach_it(text: str, local: bool):
    assert address(text).is_local is local
