"""Bodies that are bombs, tricks or nonsense, each with its answer: what the tests send, and what
`python -m tests.hostile.neighbour` measures the wait of others beside."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from app.api.json_text import MAX_CONTAINERS, MAX_DEPTH, MAX_KEYS, MAX_VALUES

CLASSIFY = "/v1/text-classification"
LABELS = "/v1/zero-shot-classification"
IMAGES = "/v1/image-classification"


@dataclass(frozen=True, kw_only=True)
class Bomb:
    """content: made when it is sent. is_huge: almost as large as a body may be, and much work to make. says: what
    stands in the sentence."""

    name: str
    content: Callable[[], bytes]
    status: int
    says: str
    path: str = CLASSIFY
    headers: Mapping[str, str] = field(default_factory=dict)
    is_huge: bool = False


def json_bomb(
    name: str,
    content: Callable[[], bytes] | bytes,
    status: int,
    says: str,
    *,
    path: str = CLASSIFY,
    is_huge: bool = False,
) -> Bomb:
    made = content if callable(content) else lambda: content
    return Bomb(name=name, content=made, status=status, says=says, path=path, is_huge=is_huge)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> Callable[[], bytes]:
    return lambda: b'{"inputs":' + opening * depth + b"1" + closing * depth + b"}"


def inputs_of(one: bytes, count: int) -> Callable[[], bytes]:
    return lambda: b'{"inputs":[' + b",".join([one] * count) + b"]}"


def keys_of(count: int) -> Callable[[], bytes]:
    return lambda: b"{" + b",".join(b'"%d":0' % index for index in range(count)) + b"}"


def image_of(text: str) -> Callable[[], bytes]:
    return lambda: orjson.dumps({"inputs": text})


JSON = (
    json_bomb("100,000 brackets", lambda: b"[" * 100_000, 400, "not JSON"),
    json_bomb("100,000 brackets and their ends", nested(100_000), 400, "depth limit"),
    json_bomb("objects in objects", nested(1000, b'{"a":', b"}"), 400, f"more than {MAX_DEPTH} deep"),
    json_bomb("one level too many", nested(MAX_DEPTH), 400, f"more than {MAX_DEPTH} deep"),
    json_bomb("the last level", nested(MAX_DEPTH - 1), 422, "inputs"),
    json_bomb("empty arrays", inputs_of(b"[]", MAX_CONTAINERS), 413, f"{MAX_CONTAINERS:,} arrays"),
    json_bomb("empty objects", inputs_of(b"{}", MAX_CONTAINERS), 413, f"{MAX_CONTAINERS:,} arrays"),
    json_bomb("ten million arrays", inputs_of(b"[]", 10_000_000), 413, f"{MAX_CONTAINERS:,} arrays", is_huge=True),
    json_bomb("ten million texts", inputs_of(b'""', 10_000_000), 413, f"{MAX_VALUES:,}", is_huge=True),
    json_bomb("six million short texts", inputs_of(b'"ab"', 6_000_000), 413, f"{MAX_VALUES:,}", is_huge=True),
    json_bomb(
        "six million short texts in arrays",
        lambda: b'{"inputs":[[' + b"],[".join([b",".join([b'"ab"'] * 100_000)] * 60) + b"]]}",
        413,
        f"{MAX_VALUES:,}",
        is_huge=True,
    ),
    json_bomb("fifteen million numbers", inputs_of(b"1", 15_000_000), 413, f"{MAX_VALUES:,}", is_huge=True),
    json_bomb("a million keys", keys_of(1_000_000), 413, f"{MAX_KEYS:,} keys", is_huge=True),
    json_bomb("as many keys as may be", keys_of(MAX_KEYS), 422, "no such field", is_huge=True),
    json_bomb("more inputs than the queue", inputs_of(b'"a"', 50_000), 413, "8192"),
    json_bomb("brackets in a text", lambda: b'{"inputs":1,"a":"' + b"[{" * 1_000_000 + b'"}', 422, "no such field"),
    json_bomb("a text of thirty million characters", image_of("a" * 30_000_000), 413, "1000000"),
    json_bomb("an infinite number", b'{"inputs":"a","parameters":{"top_k":1e999}}', 400, "infinity"),
    json_bomb("a number of 100,000 digits", lambda: b'{"inputs":' + b"9" * 100_000 + b"}", 400, "infinity"),
    json_bomb("a fraction of a million digits", lambda: b'{"inputs":0.' + b"9" * 1_000_000 + b"}", 422, "inputs"),
    json_bomb("an exponent of a million digits", lambda: b'{"inputs":1e' + b"9" * 1_000_000 + b"}", 400, "infinity"),
    json_bomb("an integer beyond 64 bits", b'{"inputs":"a","parameters":{"top_k":18446744073709551616}}', 422, "top_k"),
    json_bomb("NaN", b'{"inputs":NaN}', 400, "not JSON"),
    json_bomb("half a surrogate", b'{"inputs":"\\ud800"}', 400, "surrogate"),
    json_bomb("surrogates in UTF-8", b'{"inputs":"\xed\xa0\x80"}', 400, "UTF-8"),
    json_bomb("overlong UTF-8", b'{"inputs":"\xc0\xaf"}', 400, "UTF-8"),
    json_bomb("a null byte", b'{"inputs":"a\0b"}', 400, "control character"),
    json_bomb("null bytes", lambda: bytes(1_000_000), 400, "not JSON"),
    json_bomb("a byte order mark", b'\xef\xbb\xbf{"inputs":"a"}', 400, "not JSON"),
    json_bomb("UTF-16", '{"inputs":"a"}'.encode("utf-16"), 400, "UTF-8"),
    json_bomb("two values", b'{"inputs":"a"}{"inputs":"b"}', 400, "not JSON"),
    json_bomb("a comment", b'{"inputs":"a"/* */}', 400, "not JSON"),
    json_bomb("a name of colons", lambda: orjson.dumps({"inputs": "a", "model": "a:" * 5_000_000}), 404, "no model"),
    json_bomb("a long field", lambda: orjson.dumps({"inputs": "a", "b" * 5_000_000: 1}), 422, "no such field"),
    json_bomb(
        "100,000 labels",
        lambda: orjson.dumps({"inputs": "a", "parameters": {"candidate_labels": [str(one) for one in range(100_000)]}}),
        413,
        "the limit is 1000",
        path=LABELS,
    ),
)

URIS = (
    json_bomb("a URI of letters", image_of("data:" + "a" * 5_000_000), 422, "inputs: ", path=IMAGES),
    json_bomb("a URI of parameters", image_of("data:" + ";a=b" * 1_000_000), 422, "inputs: ", path=IMAGES),
    json_bomb("a URI of commas", image_of("data:" + "," * 1_000_000), 422, "inputs: ", path=IMAGES),
    json_bomb("a URI without base64", image_of("data:image/png," + "%00" * 1_000_000), 422, "inputs: ", path=IMAGES),
    json_bomb("spaces", image_of(" " * 5_000_000), 422, "inputs: ", path=IMAGES),
    json_bomb("padding", image_of("=" * 5_000_000), 422, "inputs: ", path=IMAGES),
    json_bomb("a path", image_of("../../../../etc/passwd"), 422, "inputs: ", path=IMAGES),
    json_bomb("a file's URL", image_of("file:///etc/passwd"), 422, "inputs: ", path=IMAGES),
    json_bomb("another scheme", image_of("gopher://127.0.0.1:6379/_FLUSHALL"), 422, "inputs: ", path=IMAGES),
)


def packed(name: str, encoding: str, content: Callable[[], bytes]) -> Bomb:
    says = f"'{encoding[:32]}'"
    return Bomb(name=name, content=content, status=415, says=says, headers={"content-encoding": encoding})


ZEROS = bytes(2**20)
PACKED = (
    packed("gzip", "gzip", lambda: gzip.compress(ZEROS)),
    packed("deflate", "deflate", lambda: zlib.compress(ZEROS)),
    packed("brotli", "br", lambda: b"\x1b"),
    packed("zstandard", "zstd", lambda: b"\x28\xb5\x2f\xfd"),
    packed("gzip in gzip", "gzip, gzip", lambda: gzip.compress(gzip.compress(ZEROS))),
    packed("an endless encoding", "a" * 5000, lambda: b"{}"),
)


def part(head: bytes, value: bytes = b"x") -> bytes:
    return b"--b\r\n%s\r\n\r\n%s\r\n" % (head, value)


TEXT_PART = b'Content-Disposition: form-data; name="top_k"'
FILE_PART = b'Content-Disposition: form-data; name="file"; filename="../../x"'
END = b"--b--\r\n"


def form_bomb(
    name: str, content: Callable[[], bytes], says: str, status: int = 400, *, parameters: str = "; boundary=b"
) -> Bomb:
    headers = {"content-type": f"multipart/form-data{parameters}"}
    return Bomb(name=name, content=content, status=status, says=says, path=IMAGES, headers=headers)


CHARSETS = ("undefined", "idna", "punycode", "unicode_escape", "utf-7", "utf-16", "rot13")
FORMS = (
    form_bomb("a form without a boundary", lambda: part(FILE_PART) + END, "names no boundary", parameters=""),
    form_bomb("an empty boundary", lambda: part(FILE_PART) + END, "names no boundary", parameters='; boundary=""'),
    form_bomb(
        "a long boundary", lambda: part(FILE_PART) + END, "boundary has 1000", parameters="; boundary=" + "b" * 1000
    ),
    form_bomb("a form without an end", lambda: part(FILE_PART), "before its closing boundary"),
    form_bomb("a form without parts", lambda: b"", "before its closing boundary"),
    form_bomb("a part without a name", lambda: part(b"Content-Disposition: form-data") + END, 'no "name"'),
    form_bomb("a part of many headers", lambda: part(b"a: b\r\n" * 10_000 + FILE_PART) + END, "blank line"),
    form_bomb("a part with a long header", lambda: part(b"a: " + b"b" * 1_000_000) + END, "blank line"),
    form_bomb("many parts", lambda: part(FILE_PART) * 10_000 + END, "more than 256"),
    form_bomb("almost boundaries", lambda: part(FILE_PART, b"\r\n--bx" * 5_000_000), "before its closing boundary"),
    form_bomb("line ends", lambda: part(FILE_PART, b"\r\n" * 15_000_000), "before its closing boundary"),
    *(
        form_bomb(
            f"charset {charset}",
            lambda: part(TEXT_PART, b"\\ud800+2AA-") + part(FILE_PART) + END,
            "top_k",
            422,
            parameters=f"; boundary=b; charset={charset}",
        )
        for charset in CHARSETS
    ),
)

PIXELS = {
    "name": "inputs",
    "datatype": "UINT8",
    "shape": [1_000_000, 1, 1, 3],
    "parameters": {"binary_data_size": 3_000_000},
}
EMPTY_TEXTS = {
    "name": "inputs",
    "datatype": "BYTES",
    "shape": [7_000_000],
    "parameters": {"binary_data_size": 28_000_000},
}


def tensor_bomb(name: str, tensor: Mapping[str, object], num_bytes: int, says: str, *, model: str) -> Bomb:
    head = orjson.dumps({"inputs": [tensor]})
    return Bomb(
        name=name,
        content=lambda: head + bytes(num_bytes),
        status=413,
        says=says,
        path=f"/v2/models/{model}/infer",
        headers={"inference-header-content-length": str(len(head))},
    )


TENSORS = (
    tensor_bomb("a million pictures of a pixel", PIXELS, 3_000_000, "rows", model="tiny-image-classification"),
    tensor_bomb("seven million empty texts", EMPTY_TEXTS, 28_000_000, "1,000,000", model="rev"),
)
INSTANCES = (
    json_bomb(
        "80,000 instances, each with other parameters",
        lambda: orjson.dumps(
            {"instances": [{"inputs": "a", "parameters": {"top_k": one + 1}} for one in range(80_000)]}
        ),
        413,
        "8192",
        path="/predict",
    ),
)

BOMBS = (*JSON, *URIS, *PACKED, *FORMS, *TENSORS, *INSTANCES)
