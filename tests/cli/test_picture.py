from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_wirecap.cli.picture import UNICODE, _Clock, picture_lines, print_picture
from otel_wirecap.cli.text import milliseconds, printable, size
from otel_wirecap.reading.flows import Exchange, Flow

START = 1_767_225_600.0


def exchange(leg="client", **fields):
    known = {
        "id": leg,
        "leg": leg,
        "attempt": 1 if leg == "backend" else None,
        "backend": "openai",
        "method": "POST",
        "url": "http://127.0.0.1:4000/v1/chat/completions",
        "requested_model": "demo-small",
        "status": 200,
        "started": START,
        "ttfb_ms": 100.0,
        "duration_ms": 400.0,
        "total_bytes": 2048,
        "total_chunks": 17,
        "streamed": True,
        "outcome": "complete",
    }
    return Exchange(**(known | fields))


def flow(*exchanges):
    client = next((one for one in exchanges if one.leg == "client"), None)
    return Flow("req_1", "session", client, [one for one in exchanges if one.leg == "backend"])


def drawn(flows, width=80, **options):
    stream = io.StringIO()
    print_picture(flows, stream, width=width, **options)
    return stream.getvalue().splitlines()


def test_a_flow_shows_both_legs_with_their_numbers_on_one_clock():
    backend = exchange(
        "backend", started=START + 0.1, ttfb_ms=100.0, duration_ms=200.0, total_chunks=16, total_bytes=999
    )
    title, client_line, backend_line = drawn([flow(exchange(), backend)])[2:5]
    assert title.split() == ["1", "POST", "/v1/chat/completions", "demo-small", "00:00:00.000"]
    assert client_line == "client       ░░░░░███████████████    200  100ms  400ms     17  2.0kB complete"
    assert backend_line == "└─ openai         ░░░░░█████         200  100ms  200ms     16   999B complete"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width):
    long = exchange(
        "backend",
        backend="a-very-long-backend-name.example:8443",
        url="http://x/" + "long/" * 50,
        requested_model="m" * 300,
        outcome="client_disconnect",
        duration_ms=7_199_999.0,
        ttfb_ms=99_949.0,
        total_bytes=999_949,
        total_chunks=123_456,
        error={"type": "provider", "message": "x" * 500},
    )
    for line in drawn([flow(exchange(), long), flow(long)], width, records=10, gaps=[{"reason": "queue_full"}]):
        assert len(line) <= min(width, 120)


def test_a_terminal_too_narrow_for_a_bar_still_gets_every_number():
    text = "\n".join(drawn([flow(exchange())], width=30))
    assert "200  100ms  400ms     17  2.0kB complete" in text


def test_what_is_not_known_is_a_dash_and_what_has_not_ended_says_so():
    unknown = dict.fromkeys(("status", "ttfb_ms", "duration_ms", "outcome"))
    line = drawn([flow(exchange(**unknown, total_chunks=0, total_bytes=0, streamed=False))])[3]
    assert line.split()[-7:] == ["-", "-", "-", "-", "0B", "not", "ended"]


def test_an_error_is_told_below_its_leg():
    failed = exchange("backend", outcome="error", error={"type": "ReadTimeout", "message": "nothing came"})
    lines = drawn([flow(exchange(), failed)])
    assert lines[4].endswith(" error")
    assert lines[5].strip() == "! ReadTimeout: nothing came"


def test_totals_count_flows_exchanges_outcomes_and_what_backends_sent():
    lines = drawn([flow(exchange(), exchange("backend")), flow(exchange(outcome="client_disconnect"))], records=1234)
    assert lines[-3] == "2 flows, 3 exchanges, 1,234 records; 17 chunks and 2.0kB from backends"
    assert lines[-2] == "outcomes: 2 complete, 1 client left"
    assert lines[-1] == "no gaps: nothing was lost"


def test_gaps_are_told_with_their_reasons():
    gaps = [{"reason": "queue_full"}, {"reason": "queue_full"}, {"reason": "torn\x1b[2Jtail"}, {}]
    assert drawn([], gaps=gaps)[-1] == (r"4 gaps in the capture: queue_full (2), torn\x1b[2Jtail (1), unknown (1)")


def test_control_characters_of_the_data_are_escaped():
    hostile = exchange(
        "backend",
        backend="\x1b]0;t\x07",
        method="GET\r",
        url="http://x/\x1b[31m",
        requested_model="evil\u202emodel\n",
        outcome="odd\x9b",
        error={"type": "T\x08", "message": "line\nline\x00"},
    )
    text = "\n".join(drawn([flow(hostile)], width=120))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert r"\x1b[31m" in text
    assert r"evil\u202emodel\n" in text


@given(st.text())
def test_escaped_text_never_commands_a_terminal(text):
    escaped = printable(text)
    assert escaped.isprintable()
    if text.isprintable():
        assert escaped == text


def styled(monkeypatch, **environ):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return "\n".join(drawn([flow(exchange(), exchange("backend", outcome="error"))]))


def test_colours_are_only_for_terminals_and_add_nothing_to_the_words(monkeypatch):
    plain = styled(monkeypatch)
    coloured = styled(monkeypatch, FORCE_COLOR="1")
    assert "\x1b" not in plain
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_no_color_is_heeded(monkeypatch):
    text = styled(monkeypatch, FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


def test_a_terminal_without_unicode_gets_ascii():
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    print_picture([flow(exchange(), exchange("backend"))], stream, width=80)
    stream.flush()
    text = buffer.getvalue().decode("ascii")
    assert "client       .....###############    200" in text
    assert "`- openai" in text


@given(
    width=st.integers(8, 60),
    begin=st.floats(0, 10),
    first=st.floats(0, 10_000),
    body=st.floats(0, 10_000),
    rest=st.floats(0, 10),
)
def test_a_bar_has_its_width_and_one_stretch_of_marks(width, begin, first, body, rest):
    one = exchange(started=START + begin, ttfb_ms=first, duration_ms=first + body)
    ended = START + begin + (first + body) / 1000 + rest
    bar = _Clock(START, ended, width).bar(one, UNICODE)
    assert len(bar) == width
    assert re.fullmatch(" *░*█* *", bar)
    assert bar.strip()


@given(st.floats(0, 1e7))
def test_a_duration_takes_six_characters_at_most(value):
    assert len(milliseconds(value)) <= 6


@given(st.integers(0, 10**15))
def test_a_size_takes_six_characters_at_most(value):
    assert len(size(value)) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0ms"),
        (9.94, "9.9ms"),
        (9.96, "10ms"),
        (999.4, "999ms"),
        (999.6, "1.0s"),
        (61_000, "61.0s"),
        (150_000, "2min"),
    ],
)
def test_durations_read_as_people_write_them(value, text):
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0B"), (999, "999B"), (1000, "1.0kB"), (99_960, "100kB"), (999_960, "1.0MB")]
)
def test_sizes_read_as_people_write_them(value, text):
    assert size(value) == text


def test_an_empty_capture_has_a_picture():
    assert picture_lines([], 80)[-3][0][0].startswith("0 flows, 0 exchanges")
