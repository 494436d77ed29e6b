"""``python -m tcfs.config`` prints the JSON schema of the configuration."""

import sys

from tcfs.config.jsonschema import schema_json

if __name__ == "__main__":
    sys.stdout.write(schema_json())
