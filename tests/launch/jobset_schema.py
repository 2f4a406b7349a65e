# SPDX-License-Identifier: Apache-2.0
"""The manifest against the CRD's own schema, closed: jobset_schema.py LLMCTL CRD.yaml (python3-yaml, python3-jsonschema)."""
import subprocess
import sys

import jsonschema
import yaml


def closed(schema):
    """An object with named properties takes no others."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)
    elif isinstance(schema, list):
        for value in schema:
            closed(value)


def main(binary, crd):
    text = subprocess.run([binary, "launch", "kubernetes", "-n", "4", "--image", "i", "--claim", "data", "--gpus-per-rank", "1",
                           "--dry-run", "/data/train.json", "--run", "/data/r"], capture_output=True, text=True, check=True).stdout
    version = yaml.safe_load(open(crd))["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    for name in ("spec",):
        closed(schema["properties"][name])
    manifest = yaml.safe_load(text)
    assert manifest["apiVersion"].endswith(version["name"])
    check = jsonschema.Draft7Validator(schema)
    errors = [f"{list(e.path)}: {e.message[:200]}" for e in check.iter_errors(manifest)]
    manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["parallel"] = 4
    assert any(check.iter_errors(manifest)), "the schema lets everything through"
    print("\n".join(errors) if errors else "the manifest is valid")
    sys.exit(1 if errors else 0)


main(*sys.argv[1:3])
