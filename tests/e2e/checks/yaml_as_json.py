"""Prints a YAML file as JSON, with its anchors and merge keys resolved.

    python yaml_as_json.py FILE
"""

import json
import sys

from ruamel.yaml import YAML

with open(sys.argv[1], encoding="utf-8") as file:
    json.dump(YAML(typ="safe").load(file), sys.stdout)
