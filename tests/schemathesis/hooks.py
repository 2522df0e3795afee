"""What the generator must know beside the OpenAPI document."""

import schemathesis

# So many shards are there at once; of hundreds, 503 is what some answer until they are.
SHARDS = 4
# The only member, and one that is not there: drained or under maintenance, the only one would have no
# new keyspace's shards, which answer 503 for as long as they have no place.
ME, NOBODY = "1", "2"


def whole(value):
    """JSON Schema takes 92.0 for a whole number; the door, as most, does not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body = whole(case.body)
    if isinstance(body, dict):
        if isinstance(body.get("shards"), int):
            body["shards"] = min(body["shards"], SHARDS)
        if isinstance(body.get("nodes"), list):
            body["nodes"] = [int(NOBODY) if node == int(ME) else node for node in body["nodes"]]
    if str((case.path_parameters or {}).get("node")) == ME and case.method != "GET":
        case.path_parameters["node"] = NOBODY
    # Where it can't make a header of a pattern it makes an empty one, and takes it for a good one.
    for name in [name for name, value in (case.headers or {}).items() if value == ""]:
        del case.headers[name]
