"""Byte streams that two HTTP implementations might read differently.

Each case is a name and the bytes of one connection. Hand-written forms come first; then the same forms are varied by a
fixed random sequence, so that every run sends the same bytes. `@@` in a target stands for the case's number, so that
each request of a stream can be told apart later: what a careful reader takes for the first request asks for /a/@@, and
what hides behind it for /b/@@.
"""

import random

CRLF = b"\r\n"
HIDDEN = b"GET /b/@@ HTTP/1.1\r\nHost: d.example.com\r\n\r\n"


def post(headers, body=b"", line=b"POST /a/@@ HTTP/1.1", host=b"Host: d.example.com\r\n"):
    return line + CRLF + host + b"".join(h + CRLF for h in headers) + CRLF + body


def hand_written():
    chunked = b"0\r\n\r\n"
    te, cl = b"Transfer-Encoding: chunked", b"Content-Length: "
    yield "plain get", b"GET /a/@@ HTTP/1.1\r\nHost: d.example.com\r\n\r\n" + HIDDEN
    yield "plain post", post([cl + b"5"], b"hello") + HIDDEN
    yield "chunked post", post([te], b"5\r\nhello\r\n0\r\n\r\n") + HIDDEN
    # two framings
    yield "length and chunked", post([cl + b"6", te], chunked + HIDDEN)
    yield "chunked and length", post([te, cl + b"4"], b"5c\r\n" + HIDDEN + b"0\r\n\r\n")
    yield "length zero and chunked", post([cl + b"0", te], chunked + HIDDEN)
    yield "length of the hidden", post([cl + str(len(HIDDEN)).encode()], HIDDEN)
    for name, value in {
        "equal twice": [b"5", b"5"], "different twice": [b"5", b"0"], "list": [b"5, 5"], "list other": [b"5, 6"],
        "plus": [b"+5"], "minus": [b"-5"], "minus zero": [b"-0"], "hex": [b"0x5"], "octal": [b"05"], "zeros": [b"005"],
        "blank inside": [b"1 0"], "tab before": [b"\t5"], "blank after": [b"5 "], "empty": [b""], "letters": [b"five"],
        "underscore digits": [b"1_0"], "overflow": [b"18446744073709551621"], "huge": [b"9" * 40], "float": [b"5.0"],
        "exponent": [b"5e0"], "semicolon": [b"5;"], "nul": [b"5\x00"], "vertical tab": [b"5\x0b"], "unicode": ["５".encode()],
    }.items():
        yield "length " + name, post([cl + v for v in value], b"hello") + HIDDEN
    for name, line in {
        "underscore": b"Content_Length: 5", "blank before colon": b"Content-Length : 5", "tab before colon": b"Content-Length\t: 5",
        "blank first": b" Content-Length: 5", "no blank": b"Content-Length:5", "case": b"cOnTeNt-LeNgTh: 5",
        "cr inside": b"Content-Length: 5\rX: y", "lf inside": b"X: y\nContent-Length: 5", "folded": b"Content-Length:\r\n 5",
        "nul in name": b"Content-Length\x00: 5", "quoted": b'Content-Length: "5"', "nbsp": b"Content-Length:\xa05",
    }.items():
        yield "length line " + name, post([line], b"hello") + HIDDEN
    for name, value in {
        "x": b"xchunked", "trailing comma": b"chunked,", "leading comma": b", chunked", "twice": b"chunked, chunked",
        "identity first": b"identity, chunked", "gzip first": b"gzip, chunked", "chunked then gzip": b"chunked, gzip",
        "identity": b"identity", "empty": b"", "blank after": b"chunked ", "tab before": b"\tchunked", "vt": b"\x0bchunked",
        "ff": b"\x0cchunked", "nul": b"chunked\x00", "case": b"Chunked", "upper": b"CHUNKED", "params": b"chunked;q=1",
        "quoted": b'"chunked"', "cow": b"cow", "star": b"*", "kelvin": "chun\u212aed".encode(), "nbsp": b"\xa0chunked",
    }.items():
        yield "coding " + name, post([b"Transfer-Encoding: " + value], chunked) + HIDDEN
        yield "coding with length " + name, post([b"Transfer-Encoding: " + value, cl + b"5"], chunked) + HIDDEN
    for name, line in {
        "blank before colon": b"Transfer-Encoding : chunked", "tab before colon": b"Transfer-Encoding\t: chunked",
        "underscore": b"Transfer_Encoding: chunked", "blank first": b" Transfer-Encoding: chunked", "lf inside": b"X: y\nTransfer-Encoding: chunked",
        "cr inside": b"X: y\rTransfer-Encoding: chunked", "folded": b"Transfer-Encoding:\r\n chunked", "folded end": b"Transfer-Encoding: chunked\r\n ",
        "no colon": b"Transfer-Encoding chunked", "nul in name": b"Transfer-Encoding\x00: chunked", "dash variant": "Transfer‐Encoding: chunked".encode(),
        "in connection": b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked", "trailer": b"Trailer: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    }.items():
        yield "coding line " + name, post([line, cl + b"5"], chunked) + HIDDEN
        yield "coding line alone " + name, post([line], chunked) + HIDDEN
    yield "coding twice", post([te, te], chunked) + HIDDEN
    yield "coding split", post([b"Transfer-Encoding: identity", te], chunked) + HIDDEN
    yield "coding 1.0", post([te], chunked, line=b"POST /a/@@ HTTP/1.0") + HIDDEN
    yield "coding and length 1.0", post([te, cl + b"5"], chunked, line=b"POST /a/@@ HTTP/1.0") + HIDDEN
    # chunks
    for name, body in {
        "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n", "extension quoted": b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', "bare semicolon": b"5;\r\nhello\r\n0\r\n\r\n",
        "extension lf": b"5;a\nhello\r\n0\r\n\r\n", "extension cr": b"5;a\rb\r\nhello\r\n0\r\n\r\n", "extension nul": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
        "extension long": b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n", "hex prefix": b"0x5\r\nhello\r\n0\r\n\r\n", "plus": b"+5\r\nhello\r\n0\r\n\r\n",
        "minus": b"-5\r\nhello\r\n0\r\n\r\n", "underscore": b"0_5\r\nhello\r\n0\r\n\r\n", "blank before": b" 5\r\nhello\r\n0\r\n\r\n", "blank after": b"5 \r\nhello\r\n0\r\n\r\n",
        "tab after": b"5\t\r\nhello\r\n0\r\n\r\n", "zeros": b"0005\r\nhello\r\n000\r\n\r\n", "many zeros": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n", "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "max": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "empty size": b"\r\nhello\r\n0\r\n\r\n", "lf size": b"5\nhello\r\n0\r\n\r\n", "cr size": b"5\rhello\r\n0\r\n\r\n",
        "lf data": b"5\r\nhello\n0\r\n\r\n", "no crlf after data": b"5\r\nhello0\r\n\r\n", "too long data": b"5\r\nhelloxx\r\n0\r\n\r\n", "short data": b"6\r\nhello\r\n0\r\n\r\n",
        "lf end": b"5\r\nhello\r\n0\n\n", "lf trailer": b"5\r\nhello\r\n0\r\nX: y\n\r\n", "trailer": b"5\r\nhello\r\n0\r\nX-T: y\r\n\r\n", "trailer length": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
        "trailer coding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "trailer host": b"5\r\nhello\r\n0\r\nHost: e.example.com\r\n\r\n", "trailer no colon": b"5\r\nhello\r\n0\r\nxx\r\n\r\n",
        "upper hex": b"A\r\nhellohello\r\n0\r\n\r\n", "letters": b"g\r\nhello\r\n0\r\n\r\n", "size spill": b"5\r\nhello\r\n0\r\nGET /b/@@ HTTP/1.1\r\nHost: d.example.com\r\n\r\n",
    }.items():
        yield "chunk " + name, post([te], body) + HIDDEN
    # lines and targets
    for name, line in {
        "two blanks": b"POST  /a/@@ HTTP/1.1", "tab": b"POST\t/a/@@\tHTTP/1.1", "blank target": b"POST /a/@@ x HTTP/1.1", "no version": b"POST /a/@@",
        "version 1.2": b"POST /a/@@ HTTP/1.2", "version 2": b"POST /a/@@ HTTP/2.0", "version 0.9": b"POST /a/@@ HTTP/0.9", "version long": b"POST /a/@@ HTTP/1.10",
        "version case": b"POST /a/@@ http/1.1", "version zeros": b"POST /a/@@ HTTP/01.1", "version blank": b"POST /a/@@ HTTP/ 1.1", "leading blank": b" POST /a/@@ HTTP/1.1",
        "trailing blank": b"POST /a/@@ HTTP/1.1 ", "absolute": b"POST http://d.example.com/a/@@ HTTP/1.1", "absolute other": b"POST http://e.example.com/a/@@ HTTP/1.1",
        "authority": b"POST d.example.com:80 HTTP/1.1", "fragment": b"POST /a/@@#x HTTP/1.1", "nul": b"POST /a/@@\x00 HTTP/1.1", "control": b"POST /a/@@\x01 HTTP/1.1",
        "raw utf-8": "POST /a/@@é HTTP/1.1".encode(), "backslash": b"POST /a\\@@ HTTP/1.1", "dots": b"POST /x/../a/@@ HTTP/1.1", "escaped dots": b"POST /x/%2e%2e/a/@@ HTTP/1.1",
        "escaped slash": b"POST /a%2f@@ HTTP/1.1", "double slash": b"POST //a/@@ HTTP/1.1", "bad escape": b"POST /a/@@%zz HTTP/1.1", "escaped crlf": b"POST /a/@@%0d%0aX:y HTTP/1.1",
        "method case": b"post /a/@@ HTTP/1.1", "method odd": b"PO;ST /a/@@ HTTP/1.1", "no target": b"POST HTTP/1.1", "star": b"POST * HTTP/1.1", "query twice": b"POST /a/@@?a?b HTTP/1.1",
        "connect": b"CONNECT d.example.com:80 HTTP/1.1", "connect path": b"CONNECT /a/@@ HTTP/1.1", "connect absolute": b"CONNECT http://d.example.com/a/@@ HTTP/1.1",
    }.items():
        yield "line " + name, post([cl + b"5"], b"hello", line=line) + HIDDEN
    for name, host in {
        "none": b"", "twice": b"Host: d.example.com\r\nHost: d.example.com\r\n", "two": b"Host: d.example.com\r\nHost: e.example.com\r\n", "list": b"Host: d.example.com, e.example.com\r\n",
        "empty": b"Host:\r\n", "userinfo": b"Host: x@d.example.com\r\n", "path": b"Host: d.example.com/x\r\n", "blank": b"Host: d.example .com\r\n", "port": b"Host: d.example.com:80\r\n",
        "bad port": b"Host: d.example.com:8x\r\n", "folded": b"Host: d.example.com\r\n x\r\n", "dot": b"Host: d.example.com.\r\n", "upper": b"Host: D.EXAMPLE.COM\r\n", "tab": b"Host:\td.example.com\r\n",
    }.items():
        yield "host " + name, post([cl + b"5"], b"hello", host=host) + HIDDEN
    for name, line in {
        "no colon": b"foo", "empty name": b": x", "blank in name": b"a b: c", "nul value": b"X: a\x00b", "cr value": b"X: a\rb", "lf value": b"X: a\nb", "bare lf end": b"X: a\n",
        "obs-text": b"X: \xff", "control name": b"a\x01: b", "colon name": b"a:b: c", "slash name": b"a/b: c", "paren name": b"a(b): c", "delete": b"X: \x7f", "long": b"X: " + b"a" * 70000,
        "expect odd": b"Expect: 200-ok", "connection close": b"Connection: close", "connection odd": b"Connection: close, , keep-alive", "names length": b"Connection: content-length",
        "names host": b"Connection: host", "upgrade h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "keep-alive": b"Keep-Alive: timeout=1",
    }.items():
        yield "field " + name, post([line, cl + b"5"], b"hello") + HIDDEN
    # bodies where readers differ on whether there is one
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PUT", b"PATCH", b"FOO"):
        line = method + b" /a/@@ HTTP/1.1"
        yield method.decode() + " with length", post([cl + b"5"], b"hello", line=line) + HIDDEN
        yield method.decode() + " with hidden body", post([cl + str(len(HIDDEN)).encode()], HIDDEN, line=line)
        yield method.decode() + " chunked", post([te], b"5\r\nhello\r\n0\r\n\r\n", line=line) + HIDDEN
        yield method.decode() + " without framing", post([], b"", line=line) + HIDDEN
    yield "bare lf lines", b"POST /a/@@ HTTP/1.1\nHost: d.example.com\nContent-Length: 5\n\nhello" + HIDDEN
    yield "bare lf at the end", b"POST /a/@@ HTTP/1.1\r\nHost: d.example.com\r\nContent-Length: 5\n\nhello" + HIDDEN
    yield "bare cr lines", b"POST /a/@@ HTTP/1.1\rHost: d.example.com\rContent-Length: 5\r\rhello" + HIDDEN
    yield "leading crlf", b"\r\n\r\nGET /a/@@ HTTP/1.1\r\nHost: d.example.com\r\n\r\n" + HIDDEN
    yield "preface of http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN
    yield "body longer than length", post([cl + b"5"], b"helloGET /b/@@ HTTP/1.1\r\nHost: d.example.com\r\n\r\n")
    yield "truncated body", post([cl + b"50"], b"hello")
    yield "truncated chunk", post([te], b"5\r\nhel")
    yield "truncated head", b"GET /a/@@ HTTP/1.1\r\nHost: d.exam"
    yield "expect with body", post([b"Expect: 100-continue", cl + b"5"], b"hello") + HIDDEN
    yield "expect chunked", post([b"Expect: 100-continue", te], b"5\r\nhello\r\n0\r\n\r\n") + HIDDEN


def let_in():
    """Forms that a listener may let in, and what hides behind them."""
    cl, te = b"Content-Length: 5", b"Transfer-Encoding: chunked"
    for name, target in {
        "slash": b"/a%2f@@", "slash upper": b"/a%2F@@", "slash last": b"/a/@@%2f", "slash alone": b"/%2f/a/@@", "slashes": b"/%2f%2F%2f/a/@@",
        "slash absolute": b"http://d.example.com/a%2f@@", "slash resolved": b"/x%2fy/../a/@@", "slash and query": b"/a%2f@@?x=%2f",
        "dots first": b"/..%2fa/@@", "dots last": b"/a/@@%2f..", "dots between": b"/a/@@%2f..%2fb/@@", "dots escaped": b"/a/@@%2f%2e%2e%2fb/@@",
        "dot": b"/a%2f.%2f@@", "dots parameter": b"/a/@@%2f..;x", "backslash": b"/a%2f..%5c@@", "twice": b"/a%252f@@", "double": b"/a%25%32%66@@",
        "nul": b"/a%2f%00@@", "overlong": b"/a%c0%af@@", "slash and fragment": b"/a%2f@@#%2f", "slash and blank": b"/a%2f@@ x",
    }.items():
        yield "let in: " + name, post([cl], b"hello", line=b"POST " + target + b" HTTP/1.1") + HIDDEN
    for name, lines in {
        "name": [b"x_user: 1", cl], "name twice": [b"x_user: 1", b"x-user: 2", cl], "underscore alone": [b"_: 1", cl], "name and dot": [b"x_a.b: 1", cl],
        "length": [b"Content_Length: 5"], "length after": [b"Content-Length: 5", b"Content_Length: 0"], "length before": [b"Content_Length: 0", cl],
        "coding": [b"Transfer_Encoding: chunked", cl], "coding alone": [b"Transfer_Encoding: chunked"], "coding both": [b"Transfer_Encoding: identity", te],
        "host": [b"Host_: e.example.com", cl], "named": [b"Connection: x_user", b"x_user: 1", cl], "names length": [b"Connection: content_length", b"Content_Length: 5", cl],
        "expect": [b"Expect_: 100-continue", cl], "forwarded": [b"x_forwarded_for: 1.2.3.4", cl],
    }.items():
        yield "let in: " + name, post(lines, b"hello" if te not in lines else b"5\r\nhello\r\n0\r\n\r\n") + HIDDEN
    for name, trailer in {"name": b"x_sum: 1", "length": b"Content_Length: 5", "coding": b"Transfer_Encoding: chunked", "forwarded": b"x_forwarded_for: 1"}.items():
        yield "let in: trailer " + name, post([te], b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n") + HIDDEN


def varied(count, seed=20261121):
    """Each variation changes a few bytes of a hand-written form where framing is decided."""
    draw = random.Random(seed)
    forms = [data for _, data in hand_written() if len(data) < 2000]
    odd = [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b";", b",", b":", b"0", b"+", b"-", b"_", b"\x7f", b"\x80", b"\xa0", b"a", b"\r\n ", b"\n\n"]
    for number in range(count):
        data = bytearray(draw.choice(forms))
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[at:at] = draw.choice(odd)
            elif kind == 1:
                del data[at]
            elif kind == 2:
                data[at:at + 1] = draw.choice(odd)
            else:
                end = data.find(b"\r\n", at)
                begin = data.rfind(b"\r\n", 0, at)
                if end > 0 and begin >= 0:
                    data[end:end] = data[begin:end]
        yield f"variation {number}", bytes(data)


def corpus(variations):
    """Number, name, whether it goes to the listener that lets forms in, and bytes."""
    number = 0
    for lax, source in ((False, hand_written()), (True, hand_written()), (True, let_in()), (False, varied(variations))):
        for name, data in source:
            yield number, name, lax, data.replace(b"@@", str(number).encode())
            number += 1
