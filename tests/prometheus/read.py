"""Reads a page of metrics with Prometheus' own parser and holds it against the table of docs/metrics.md.

    read.py docs/metrics.md PAGE

What is documented for groups, peers and parts that the node has none of may be without series; its family
is on the page all the same.
"""

import math
import re
import sys

from prometheus_client.parser import text_string_to_metric_families

ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<shape>\w+) \| (?P<labels>[^|]*) \| (?P<help>.+) \|$")


def documented(path):
    """Each family's shape, labels and help, by its name."""
    with open(path, encoding="utf-8") as file:
        rows = [row for row in map(ROW.match, file) if row]
    return {
        row["name"]: (row["shape"], set(re.findall(r"`(\w+)`", row["labels"])), row["help"])
        for row in rows
    }


def check(family, shape, labels, about):
    """What is wrong with a family, if anything."""
    if (family.type, family.documentation) != (shape, about):
        yield f"{family.name} is {family.type}, {family.documentation!r}"
    for sample in family.samples:
        extra = set(sample.labels) - labels - ({"le"} if shape == "histogram" else set())
        if extra:
            yield f"{sample.name} has labels that are not documented: {extra}"
        if math.isnan(sample.value) or sample.value < 0:
            yield f"{sample.name} is {sample.value}"


def main():
    table = documented(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:
        page = list(text_string_to_metric_families(file.read()))
    # The parser calls a counter by its name without the ending.
    ending = {"counter": "_total"}
    shown = {family.name + ending.get(family.type, ""): family for family in page}
    wrong = [f"{name} is on the page and not documented" for name in shown.keys() - table.keys()]
    wrong += [f"{name} is documented and not on the page" for name in table.keys() - shown.keys()]
    if len(shown) != len(page):
        wrong.append("a family is there twice")
    for name in shown.keys() & table.keys():
        wrong += check(shown[name], *table[name])
    if wrong:
        sys.exit("\n".join(wrong))
    samples = sum(len(family.samples) for family in page)
    print(f"{len(page)} families with {samples} samples, all as documented")


main()
