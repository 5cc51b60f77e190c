"""Calls by gRPC: how the connection behaves towards servers that set limits."""

from capsula.store.calls import OPTIONS

# Servers in Go (MinTime) and C (min_ping_interval_without_data) end a connection that is pinged more often.
LEAST_BETWEEN_PINGS_MS = 300_000


def test_no_server_is_pinged_more_often_than_it_allows() -> None:
    options = dict(OPTIONS)
    assert options["grpc.keepalive_time_ms"] > LEAST_BETWEEN_PINGS_MS
    assert options.get("grpc.keepalive_permit_without_calls", 0) == 0
