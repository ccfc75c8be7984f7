"""What schemathesis is told about Ringgate besides its OpenAPI document.

Random questions name nothing that is there and have bodies of which nothing can be taken. So most ids become
ids that lists give, and most bodies become the document's example with some of the random fields in it.

RINGGATE_TOKEN  lets the hooks read those lists
RINGGATE_CALL   a file with the id of a call that stands, if one does
RINGGATE_TALLY  a file that gets, at the end, how often each operation answered with which status
"""

import atexit
import collections
import itertools
import json
import os
import time

import requests
import schemathesis

# A removal leaves so many, for those who ask later.
LEFT = 4
# A list is read anew after so many requests.
STALE = 25
# How often a question is put again that a busy host did not answer.
TRIES = 5
# Names that must be new.
NAMES = ("extension", "name", "username")

tally = collections.defaultdict(collections.Counter)
ids = {}
# What is changed follows from how many requests there were before, which the seed decides.
turns = itertools.count()


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """A 501 is meant where the document marks what is not built, and nowhere else. A 503 that says when to
    come again is what a host gives that others keep busy: it must not stay when the question comes again."""
    if failure.code != "ST101":
        return True
    if response.status_code == 501:
        marked = case.operation.definition.raw.get("x-not-built")
        return not (marked and response.json().get("code") == "not_built")
    for _ in range(TRIES):
        if response.status_code != 503 or "retry-after" not in response.headers:
            break
        tally["asked again"][case.operation.label] += 1
        time.sleep(int(response.headers["retry-after"][0]))
        response = case.call()
    return response.status_code >= 500


def body_with_sense(operation, body, turn):
    """An example of the document with all, or one, of the random fields that it does not have."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    media = content.get("application/json", {})
    examples = [named["value"] for named in media.get("examples", {}).values()] or [media.get("example")]
    example = examples[turn // 4 % len(examples)]
    if turn % 4 == 0 or not isinstance(body, dict) or not isinstance(example, dict):
        return body
    fields = [name for name in body if name not in example]
    kept = fields if turn % 4 == 1 else fields[:1]
    mixed = {**example, **{name: body[name] for name in kept}}
    mixed.update({name: f"n{turn}" for name in NAMES if name in example})
    return mixed


def listed(case, turn):
    """The ids of the list that the operation's path begins with."""
    path = case.operation.path.split("/{")[0]
    read_at, known = ids.get(path, (-STALE, []))
    if turn - read_at >= STALE:
        headers = {"Authorization": f"Bearer {os.environ['RINGGATE_TOKEN']}"}
        answer = requests.get(case.operation.base_url.rstrip("/") + path, headers=headers, timeout=40)
        body = answer.json() if answer.status_code == 200 else {}
        items = body.get("data") or body.get("items") or []
        # An extension of the older prefix lies in a wrapper.
        items = [item["extension"] if isinstance(item.get("extension"), dict) else item for item in items]
        known = [str(item["id"]) for item in items if item.get("id") is not None]
        if answer.status_code != 200:
            known = [str(number) for number in range(2, 12)]
        ids[path] = (turn, known)
    return known


def standing_call():
    """Another one after the last one was hung up."""
    try:
        with open(os.environ["RINGGATE_CALL"], encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


@schemathesis.hook
def before_call(context, case, kwargs):
    turn = next(turns)
    path = case.path_parameters or {}
    if isinstance(path.get("call_id"), str) and turn % 5:
        path["call_id"] = standing_call() or path["call_id"]
    if isinstance(path.get("id"), str) and turn % 5 and "/webhooks/{id}" not in case.operation.path:
        known = listed(case, turn)
        if case.method.upper() == "DELETE" and len(known) > LEFT:
            path["id"] = known.pop()
        elif known and case.method.upper() != "DELETE":
            path["id"] = known[turn % len(known)]
    if case.headers and "If-Match" in case.headers and turn % 5:
        case.headers["If-Match"] = "*"
    case.body = body_with_sense(case.operation, case.body, turn)


@schemathesis.hook
def after_call(context, case, response):
    tally[case.operation.label][response.status_code] += 1


@atexit.register
def write_tally():
    if path := os.environ.get("RINGGATE_TALLY"):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(tally, file)
