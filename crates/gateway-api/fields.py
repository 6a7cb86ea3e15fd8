"""A definition of the standard channel with fields of the experimental one: fields.py STANDARD EXPERIMENTAL [FIELD...].

A field is said as in `spec.rules.retry`, where `rules` is a list. What comes out is JSON, which is YAML.
"""
import json, sys, yaml


def schema(definition, path):
    """The properties that hold the last name of the path."""
    version = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")
    at = version["schema"]["openAPIV3Schema"]
    for name in path:
        at = at["properties"][name]
        at = at.get("items", at)
    return at["properties"]


standard, experimental = (yaml.safe_load(open(path)) for path in sys.argv[1:3])
for field in sys.argv[3:]:
    *above, name = field.split(".")
    there = schema(standard, above)
    assert name not in there, f"{field} is standard"
    there[name] = schema(experimental, above)[name]
json.dump(standard, sys.stdout)
