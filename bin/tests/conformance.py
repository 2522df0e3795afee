#!/usr/bin/env python3
"""Every endpoint of the HTTP API, asked in another language than it is written in.

    python3 conformance.py API.md URL...

The URLs are of the nodes of one cluster, which is asked through each of them in turn. With nothing but
Python's standard library, and what `docs/http.md` says: every request that stands there must be made
here. Each answer is held against the OpenAPI document that the nodes tell, and its examples are tried.
Ends with 1 and one line for each thing that is not as it is written.
"""

import base64
import http.client
import json
import re
import sys
import time
import urllib.parse

PATIENCE = 60
PROBLEM = "urn:aspen:problem:"


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Api:
    """An OpenAPI document, and what of an answer is not as it says."""

    def __init__(self, document):
        self.forms = document["components"]["schemas"]
        self.operations = {
            (method.upper(), path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    def contradictions(self, method, endpoint, answer):
        operation = self.operations.get((method, endpoint))
        # Paths and methods that there are not are refused as such.
        if operation is None:
            return
        described = operation["responses"].get(str(answer.status))
        if described is None:
            yield f"{answer.status} is not described: {answer.body[:200]}"
            return
        if not answer.body:
            return
        kind = answer.headers["content-type"].split(";")[0]
        content = described.get("content", {}).get(kind)
        if content is None:
            yield f"{answer.status} with {kind} is not described"
        elif kind.endswith("json"):
            for one in answer.body.splitlines() if kind.endswith("ndjson") else [answer.body]:
                yield from self.misfits(json.loads(one), content["schema"], "the answer")

    def misfits(self, value, schema, where):
        """What of a value is not as its schema says."""
        if "$ref" in schema:
            yield from self.misfits(value, self.forms[schema["$ref"].rpartition("/")[2]], where)
        if "type" in schema:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            if not any(self.is_of(value, kind) for kind in kinds):
                yield f"{where} is not of {kinds}: {value!r}"
                return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{where} is none of {schema['enum']}: {value!r}"
        if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
            yield f"{where} is not like {schema['pattern']}: {value!r}"
        if "minimum" in schema and isinstance(value, (int, float)) and value < schema["minimum"]:
            yield f"{where} is under {schema['minimum']}: {value!r}"
        for either in ("anyOf", "oneOf"):
            ways = [list(self.misfits(value, way, where)) for way in schema.get(either, [])]
            if ways and all(ways):
                yield f"{where} fits nothing of {either}: {min(ways, key=len)}"
        for name in schema.get("required", []):
            if isinstance(value, dict) and name not in value:
                yield f"{where} has no {name}"
        if isinstance(value, dict):
            properties = schema.get("properties", {})
            for name in value:
                if name in properties:
                    yield from self.misfits(value[name], properties[name], f"{where}.{name}")
                elif schema.get("additionalProperties") is False:
                    yield f"{where} has {name}, which is not described"
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                yield from self.misfits(item, schema["items"], f"{where}[{index}]")

    @staticmethod
    def is_of(value, kind):
        kinds = {
            "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
            "integer": int, "number": (int, float),
        }
        is_bool = isinstance(value, bool)
        return isinstance(value, kinds[kind]) and (not is_bool or kind == "boolean")


class Cluster:
    """Asks one node after the other, and keeps which endpoints were asked."""

    def __init__(self, urls):
        self.addresses = [urllib.parse.urlsplit(url).netloc for url in urls]
        self.turn = 0
        self.asked = set()
        self.wrong = []
        self.api = None
        self.api = Api(self.ask("GET", "/openapi.json").json)

    def ask(self, method, endpoint, *names, query="", body=None, headers=None, node=None):
        """`endpoint` as it is documented; `names` stand for what is in its braces."""
        self.asked.add((method, endpoint))
        path = endpoint
        for name in names:
            quoted = urllib.parse.quote(name, safe="")
            path = re.sub(r"\{[^}]*\}", quoted.replace("\\", r"\\"), path, count=1)
        if query:
            path += "?" + query
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if node is None:
            node = self.turn % len(self.addresses)
            self.turn += 1
        connection = http.client.HTTPConnection(self.addresses[node], timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            answer = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        if self.api and method != "HEAD":
            for wrong in self.api.contradictions(method, endpoint, answer):
                self.wrong.append(f"{method} {path}: {wrong}")
        return answer

    def lines(self, path, headers=None, node=0):
        """A connection whose answer goes on, and its lines."""
        connection = http.client.HTTPConnection(self.addresses[node], timeout=PATIENCE)
        connection.request("GET", path, headers=headers or {})
        return connection, connection.getresponse()

    def until(self, status, ask):
        """Asks again until this is the status, or patience is over."""
        deadline = time.monotonic() + PATIENCE / 2
        answer = ask()
        while answer.status != status and time.monotonic() < deadline:
            answer = ask()
        return answer

    def check(self, what, is_so, saw=""):
        if not is_so:
            self.wrong.append(f"{what}: {saw}")

    def same(self, what, saw, should):
        self.check(what, saw == should, f"{saw!r} and not {should!r}")

    def is_problem(self, what, answer, status, name):
        self.same(f"{what}: status", answer.status, status)
        kind = answer.headers["content-type"]
        self.same(f"{what}: type of body", kind, "application/problem+json")
        if kind != "application/problem+json":
            return
        form = answer.json
        self.same(f"{what}: type", form["type"], PROBLEM + name)
        self.same(f"{what}: status in the body", form["status"], status)
        self.check(f"{what}: a sentence", bool(form["detail"]) and bool(form["title"]), form)


KEY = "/v1/kv/{key}"


def keys(c):
    key = "a/ü +%2F"
    c.is_problem("a key that never was", c.ask("GET", KEY, key), 404, "key-not-found")
    made = c.ask("PUT", KEY, key, body=b"one")
    c.same("created", made.status, 201)
    revision = int(made.headers["aspen-revision"])
    c.same("its tag", made.headers["etag"], f'"{revision}"')
    for node in range(len(c.addresses)):
        read = c.ask("GET", KEY, key, node=node)
        c.same("read", (read.status, read.body), (200, b"one"))
        c.same("mod revision", read.headers["aspen-mod-revision"], str(revision))
        c.same("version", read.headers["aspen-version"], "1")
    head = c.ask("HEAD", KEY, key)
    c.same("head", (head.status, head.body, head.headers["content-length"]), (200, b"", "3"))
    same = c.ask("GET", KEY, key, headers={"If-None-Match": f'"{revision}"'})
    c.same("not modified", (same.status, same.body), (304, b""))
    late = c.ask("PUT", KEY, key, body=b"x", headers={"If-None-Match": "*"})
    c.is_problem("a condition", late, 412, "condition-failed")
    c.same("its present revision", late.json["present"], revision)
    again = c.ask("PUT", KEY, key, query="prev", body=b"two", headers={"If-Match": f'"{revision}"'})
    c.same("overwritten", (again.status, again.json["created"]), (200, False))
    c.same("what was there", again.json["prev"]["value"], "one")
    past = c.ask("GET", KEY, key, query=f"revision={revision}")
    c.same("the past", past.body, b"one")
    for consistency in ["linearizable", "lease"]:
        read = c.ask("GET", KEY, key, query=f"consistency={consistency}")
        c.same(consistency, read.body, b"two")
    told = c.ask("GET", KEY, key, query="explain").json
    c.same("explained", sorted(told), ["group", "keyspace", "leader", "revision", "shard"])
    gone = c.ask("DELETE", KEY, key, query="prev").json
    c.same("deleted", (gone["deleted"], gone["prev"]["value"]), (1, "two"))
    c.same("deleted again", c.ask("DELETE", KEY, key).json["deleted"], 0)
    large = c.ask("PUT", KEY, "large", body=b"v" * (4 * 1024 * 1024 + 1))
    c.is_problem("too large", large, 413, "value-too-long")
    c.is_problem("unknown parameter", c.ask("GET", KEY, key, query="x=1"), 400, "bad-query")
    c.is_problem("no such path", c.ask("GET", "/v1/nothing"), 404, "path-not-found")
    c.asked.discard(("GET", "/v1/nothing"))
    c.is_problem("no such method", c.ask("POST", KEY, key), 405, "method-not-allowed")
    c.asked.discard(("POST", KEY))


def many(c):
    for number in range(25):
        c.ask("PUT", KEY, f"many/{number:02}", body=str(number))
    first = c.ask("GET", "/v1/kv", query="prefix=many/&limit=10").json
    c.same("a page", (first["count"], first["more"], len(first["records"])), (25, True, 10))
    seen, page = [], first
    while True:
        seen += [record["key"] for record in page["records"]]
        if not page["more"]:
            break
        page = c.ask("GET", "/v1/kv", query=f"prefix=many/&limit=10&cursor={page['cursor']}").json
    c.same("all pages", seen, [f"many/{number:02}" for number in range(25)])
    back = c.ask("GET", "/v1/kv", query="start=many/&end=many0&order=desc&keys_only&limit=1").json
    c.same("backwards", [record["key"] for record in back["records"]], ["many/24"])
    count = c.ask("GET", "/v1/kv", query="prefix=many/&count_only").json
    c.same("counted", (count["count"], count["records"]), (25, []))
    lines = c.ask("GET", "/v1/kv", query="prefix=many/", headers={"Accept": "application/x-ndjson"})
    read = [json.loads(line)["key"] for line in lines.body.splitlines()]
    c.same("lines", read, seen)
    for path in ["/v1/kv/mget", "/v1/kv/batch"]:
        c.same("a key of this name", c.ask("PUT", path, body=b"v").json["created"], True)
        c.same("its value", c.ask("GET", path).body, b"v")
        c.same("it is gone", c.ask("DELETE", path).json["deleted"], 1)
    found = c.ask("POST", "/v1/kv/mget", body={"keys": ["many/07", "none", "many/03"]}).json
    values = [record and record["value"] for record in found["records"]]
    c.same("many read", (values, found["more"]), (["7", None, "3"], False))
    binary = base64.b64encode(b"\xff\x00").decode()
    ops = [{"put": {"key": "many/x", "value": {"base64": binary}}}, {"delete": {"key": "many/00"}}]
    done = c.ask("POST", "/v1/kv/batch", body={"ops": ops}).json
    c.same("many written", (done["failed"], done["answers"][1]["delete"]["deleted"]), (0, 1))
    c.same("bytes", c.ask("GET", KEY, "many/x").body, b"\xff\x00")
    txn = {
        "when": [{"key": "many/01", "value": "1"}],
        "then": [{"put": {"key": "many/01", "value": "one"}}, {"get": {"key": "many/01"}}],
        "or_else": [{"range": {"prefix": "many/"}}],
    }
    done = c.ask("POST", "/v1/txn", body=txn).json
    c.same("a transaction", (done["succeeded"], done["answers"][1]["get"]["record"]["value"]), (True, "one"))
    c.same("its other branch", c.ask("POST", "/v1/txn", body=txn).json["succeeded"], False)
    bad = c.ask("POST", "/v1/txn", body={"then": [{"put": {"key": "a"}}]})
    c.is_problem("a bad transaction", bad, 422, "unclear")
    c.same("where", bad.json["at"], "then[0].put")
    gone = c.ask("DELETE", "/v1/kv", query="prefix=many/").json
    c.same("a range deleted", gone["deleted"], 25)
    c.is_problem("no range", c.ask("DELETE", "/v1/kv"), 422, "unclear")


def events(answer, count):
    """So many events of a stream: name, id, data."""
    found, fields = [], {}
    while len(found) < count:
        line = answer.readline().decode().rstrip("\n")
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
            fields = {}
    return found


def watch(c):
    c.asked.add(("GET", "/v1/watch"))
    connection, answer = c.lines("/v1/watch?prefix=seen/")
    c.same("a watch", answer.headers["content-type"], "text/event-stream")
    [(name, begun, _)] = events(answer, 1)
    c.same("where it begins", name, "progress")
    for number in range(3):
        c.ask("PUT", KEY, f"seen/{number}", body=str(number))
    told = events(answer, 3)
    connection.close()
    c.same("changes", [data["events"][0]["key"] for _, _, data in told], ["seen/0", "seen/1", "seen/2"])
    for node in range(len(c.addresses)):
        connection, answer = c.lines("/v1/watch?prefix=seen/", {"Last-Event-ID": told[0][1]}, node)
        rest = events(answer, 3)
        connection.close()
        c.same("from the last seen", rest[1:], told[1:])
    c.check("an id to begin from", begun, begun)


def leases(c):
    made = c.ask("POST", "/v1/leases", body={"ttl_ms": 60000, "id": "2a"})
    c.same("a lease", (made.status, made.json["id"]), (201, f"{0x2a:016x}"))
    c.ask("PUT", KEY, "leased", query="lease=2a", body=b"v")
    shown = c.ask("GET", "/v1/leases/{id}", "2a", query="keys").json
    c.same("its keys", shown["keys"], ["leased"])
    kept = c.ask("POST", "/v1/leases/{id}/keep-alive", "2a").json
    c.check("kept alive", 0 < kept["left_ms"] <= 60000, kept)
    listed = c.ask("GET", "/v1/leases", query="limit=10").json
    c.check("listed", any(lease["id"] == kept["id"] for lease in listed["leases"]), listed)
    c.same("taken twice", c.ask("POST", "/v1/leases", body={"ttl_ms": 60000, "id": "2a"}).status, 409)
    c.same("revoked", c.ask("DELETE", "/v1/leases/{id}", "2a").status, 200)
    c.is_problem("its key", c.ask("GET", KEY, "leased"), 404, "key-not-found")
    c.is_problem("no lease", c.ask("GET", "/v1/leases/{id}", "2a"), 404, "lease-not-found")


def claims(c):
    for lease in ["b1", "b2"]:
        c.ask("POST", "/v1/leases", body={"ttl_ms": 60000, "id": lease})
    lock, election = "/v1/locks/{name}", "/v1/elections/{name}"
    first = c.ask("POST", lock, "door/1", body={"lease": "b1"}).json
    c.same("locked", (first["held"], first["holder"]["lease"]), (True, f"{0xb1:016x}"))
    c.same("shown", c.ask("GET", lock, "door/1").json["holder"], first["holder"])
    c.is_problem("held", c.ask("POST", lock, "door/1", body={"lease": "b2"}), 409, "lock-held")
    waits = c.ask("POST", lock, "door/1", body={"lease": "b2", "wait_ms": 10})
    c.same("waits", (waits.status, waits.json["held"]), (202, False))
    c.same("unlocked", c.ask("DELETE", lock, "door/1", query="lease=b1").json["released"], True)
    second = c.ask("POST", lock, "door/1", body={"lease": "b2", "wait_ms": 50000}).json
    c.check("the next", second["held"] and second["holder"]["token"] > first["holder"]["token"], second)
    won = c.ask("POST", election, "boss", body={"lease": "b1", "value": "one"}).json
    c.same("elected", (won["held"], won["holder"]["value"]), (True, "one"))
    c.same("proclaimed", c.ask("PUT", election, "boss", body={"lease": "b1", "value": "uno"}).status, 200)
    c.same("who", c.ask("GET", election, "boss").json["holder"]["value"], "uno")
    other = c.ask("PUT", election, "boss", body={"lease": "b2", "value": "x"})
    c.is_problem("another", other, 409, "not-holder")
    c.same("resigned", c.ask("DELETE", election, "boss", query="lease=b1").json["released"], True)
    c.same("nobody", c.ask("GET", election, "boss").json, {"holder": None})


def all_ready(c, when):
    for node in range(len(c.addresses)):
        ready = c.ask("GET", "/readyz", node=node)
        unwell = [part for part in ready.json["parts"] if part["state"] != "healthy"]
        c.check(f"ready, {when}", ready.status == 200 and ready.json["ready"], unwell)


def keyspaces(c):
    form = {"name": "wide", "shards": 16, "replicas": 3}
    c.same("made", c.ask("POST", "/v1/keyspaces", body=form).status, 201)
    all_ready(c, "groups are made")
    c.is_problem("made twice", c.ask("POST", "/v1/keyspaces", body=form), 409, "keyspace-exists")
    shown = c.ask("GET", "/v1/keyspaces/{name}", "wide").json
    c.same("shown", (shown["name"], shown["shards"], shown["replicas"]), ("wide", 16, 3))
    names = [keyspace["name"] for keyspace in c.ask("GET", "/v1/keyspaces").json["keyspaces"]]
    c.same("listed", names, ["default", "wide"])
    shards = c.ask("GET", "/v1/shards", query="keyspace=wide").json["shards"]
    c.same("shards", [shard["shard"] for shard in shards], list(range(16)))
    for number in range(20):
        c.ask("PUT", KEY, f"k{number}", query="keyspace=wide", body=b"v")
    count = c.ask("GET", "/v1/kv", query="count_only&keyspace=wide").json["count"]
    c.same("counted over shards", count, 20)
    across = {"then": [{"put": {"key": f"k{number}", "value": "w"}} for number in range(20)]}
    crossed = c.ask("POST", "/v1/txn", query="keyspace=wide", body=across)
    c.is_problem("across shards", crossed, 422, "cross-shard")
    c.same("two keys", len(crossed.json["keys"]), 2)
    c.same("deleted", c.ask("DELETE", "/v1/keyspaces/{name}", "wide").json["name"], "wide")
    all_ready(c, "groups are let go of")
    for node in range(len(c.addresses)):
        # Another node than the one that was asked hears of it a moment later.
        gone = c.until(404, lambda: c.ask("GET", KEY, "k1", query="keyspace=wide", node=node))
        c.is_problem("gone", gone, 404, "keyspace-not-found")


def cluster(c):
    seen = [c.ask("GET", "/v1/cluster", node=node).json for node in range(len(c.addresses))]
    c.same("one cluster", len({form["id"] for form in seen}), 1)
    numbers = sorted(form["node"]["id"] for form in seen)
    c.same("its members", sorted(member["node"] for member in seen[0]["members"]), numbers)
    for number in numbers:
        c.same("a member", c.ask("GET", "/v1/nodes/{node}", str(number)).json["node"], number)
    c.is_problem("no node", c.ask("GET", "/v1/nodes/{node}", "999"), 404, "node-not-found")
    made = c.ask("POST", "/v1/tickets", body={"kind": "node", "life_s": 60})
    c.same("a ticket", made.status, 201)
    listed = c.ask("GET", "/v1/tickets").json["tickets"]
    c.check("in the list", any(ticket["id"] == made.json["id"] for ticket in listed), listed)
    number = str(made.json["id"])
    c.same("revoked", c.ask("DELETE", "/v1/tickets/{id}", number).json["state"], "revoked")
    made = c.ask("POST", "/v1/tokens", body={"allow": ["read"], "name": "one"})
    c.same("a token", (made.status, made.json["expires_s"]), (201, None))
    tokens = c.ask("GET", "/v1/tokens").json["tokens"]
    c.check("in its list", any(token["id"] == made.json["id"] for token in tokens), tokens)
    number = made.json["id"]
    c.same("taken back", c.ask("DELETE", "/v1/tokens/{id}", number).json["state"], "revoked")
    c.is_problem("no token", c.ask("DELETE", "/v1/tokens/{id}", number), 404, "token-not-found")
    listed = c.ask("GET", "/v1/operations").json["operations"]
    c.check("operations", all(one["state"] != "done" for one in listed), listed)
    one = "/v1/operations/{id}"
    c.same("an operation", c.ask("GET", one, "create-default").json["state"], "done")
    c.is_problem("no operation", c.ask("GET", one, "drain-999"), 404, "operation-not-found")
    c.same("moves", c.ask("GET", "/v1/rebalance").json["moves"], [])
    settings = c.ask("GET", "/v1/settings").json["settings"]
    c.check("settings", {"name", "value", "default", "help"} <= set(settings[0]), settings)
    put = "/v1/settings/{name}"
    was_set = c.ask("PUT", put, "lost-after", body={"value": "10m"}).json
    c.same("set", sorted(member["node"] for member in was_set["members"]), numbers)
    c.is_problem("no time", c.ask("PUT", put, "lost-after", body={"value": "x"}), 422, "setting-value")
    c.ask("PUT", put, "lost-after", body={"value": None})
    last = str(numbers[-1])
    maintained = c.ask("POST", "/v1/maintenance", body={"nodes": [numbers[-1]], "on": True})
    c.same("maintenance", maintained.status, 200)
    both = c.ask("POST", "/v1/maintenance", body={"nodes": numbers[:2], "on": True})
    c.is_problem("too many", both, 409, "majority-away")
    c.ask("POST", "/v1/maintenance", body={"nodes": [numbers[-1]], "on": False})
    drain = "/v1/members/{node}/drain"
    drained = c.ask("POST", drain, last, body={"on": True}).json
    c.same("drained", (drained["node"], drained["draining"]), (numbers[-1], True))
    c.same("taken back", c.ask("POST", drain, last, body={"on": False}).json["draining"], False)
    moved = c.ask("POST", "/v1/groups/{group}/transfer", "1", body={"to": numbers[0]}).json
    c.same("transferred", moved, {"group": 1, "leader": numbers[0]})
    repaired = c.ask("POST", "/v1/groups/{group}/repair", "999")
    c.check("no group to repair", repaired.status in (404, 409), repaired.status)
    c.is_problem("no member", c.ask("DELETE", "/v1/members/{node}", "999"), 404, "node-not-found")


def rest(c):
    revision = int(c.ask("PUT", KEY, "k", body=b"v").headers["aspen-revision"])
    c.same("compacted", c.ask("POST", "/v1/compact", body={"revision": revision}).status, 200)
    past = c.ask("GET", KEY, "k", query="revision=1")
    c.is_problem("the past is gone", past, 410, "compacted")
    for node in range(len(c.addresses)):
        c.same("live", c.ask("GET", "/livez", node=node).status, 200)
        c.check("parts", c.ask("GET", "/health", node=node).json["parts"], "none")
        c.same("version", c.ask("GET", "/version", node=node).json["name"], "aspen")
        docs = c.ask("GET", "/docs", node=node)
        c.check("the page of it all", b"openapi.json" in docs.body, docs.body[:200])
        page = c.ask("GET", "/metrics", node=node)
        c.check("metrics", b"# TYPE aspen_http_requests_total counter" in page.body, page.body[:200])


def examples(c):
    """What the document gives as examples works, one after the other on a cluster of its own kind."""
    # What others need comes first, and what takes something away last.
    order = ["grantLease", "putKey", "campaign", "POST", "PUT", "GET", "DELETE", "repairReplica"]
    # A stream; and who leaves does so at the end.
    elsewhere = ["watch", "leave", "removeMember"]

    def rank(asked):
        (method, endpoint), operation = asked
        at = operation["operationId"]
        return order.index(at if at in order else method), endpoint

    made = {}
    for (method, endpoint), operation in sorted(c.api.operations.items(), key=rank):
        what = operation["operationId"]
        if what in elsewhere:
            continue
        given = [one for one in operation.get("parameters", []) if "example" in one]
        in_path = {one["name"]: one["example"] for one in given if one["in"] == "path"}
        made_before = {"revokeTicket": "createTicket", "revokeToken": "createToken"}.get(what)
        if made_before:
            in_path["id"] = made[made_before].json["id"]
        names = [in_path[name] for name in re.findall(r"\{(\w+)\}", endpoint)]
        query = "&".join(f"{one['name']}={one['example']}" for one in given if one["in"] == "query")
        [(kind, content)] = operation.get("requestBody", {}).get("content", {"": {}}).items()
        body = content.get("example", b"hello" if kind else None)
        answer = c.ask(method, endpoint, *names, query=query, body=body, node=0)
        c.check(f"the example of {what}", 200 <= answer.status < 300, answer.body[:300])
        if what == "maintainMembers":
            c.ask(method, endpoint, body={**body, "on": False}, node=0)
        made[what] = answer
    c.ask("POST", "/v1/members/{node}/drain", "3", body={"on": False})

    def group():
        return c.ask("GET", "/v1/cluster", node=0).json["groups"][1]

    deadline = time.monotonic() + PATIENCE
    while (group()["repair"] or group()["leader"] is None) and time.monotonic() < deadline:
        time.sleep(0.1)
    c.same("repaired", group()["repair"], None)


def leave(c):
    """The last node leaves: it tells how far it is until it has left."""
    node = len(c.addresses) - 1
    number = c.ask("GET", "/v1/cluster", node=node).json["node"]["id"]
    while True:
        answer = c.ask("POST", "/v1/leave", node=node)
        if answer.status != 202:
            break
        c.same("leaving", answer.json["state"], "leaving")
    c.same("left", (answer.status, answer.json), (200, {"node": number, "state": "removed"}))


def documented(page):
    """The requests that the page names: `METHOD /path`, `METHOD`s of a path in a heading."""
    found, heading = set(), None
    for line in page.splitlines():
        if line.startswith("#"):
            path = re.search(r"`(/[^`]*)`", line)
            heading = path and path[1]
        for text in re.findall(r"`([^`]*)`", line):
            request = re.match(r"(GET|HEAD|PUT|POST|DELETE) (/[^ ?]*)", text)
            if request:
                found.add((request[1], request[2]))
            elif line.startswith("| `") and heading and text in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                found.add((text, heading))
    return found


def main():
    page, *urls = sys.argv[1:]
    with open(page, encoding="utf-8") as file:
        named = documented(file.read())
    c = Cluster(urls)
    for part in [keys, many, watch, leases, claims, keyspaces, cluster, examples, rest, leave]:
        part(c)
    described = set(c.api.operations) | {("HEAD", KEY)}
    c.same("described and not documented", sorted(described - named), [])
    c.same("documented and not described", sorted(named - described), [])
    c.same("asked and not documented", sorted(c.asked - named), [])
    c.same("documented and not asked", sorted(named - c.asked), [])
    for wrong in c.wrong:
        print(wrong)
    print(f"{len(c.asked)} requests, {len(c.wrong)} wrong")
    return 1 if c.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
