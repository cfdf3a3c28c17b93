#!/usr/bin/env bash
# JSON-Schema-Test-Suite (json-schema-org), draft 2020-12, against the grammars of schemas: the tests marked
# `schema_suite`, in the current environment.
#
#     tests/environments/json_schema_suite.sh [FOLDER_OF_THE_SUITE]
set -euo pipefail
suite=${1:-}
if [ -z "$suite" ]; then
    suite=$(mktemp -d)
    trap 'rm -rf "$suite"' EXIT
    git clone --quiet --depth 1 https://github.com/json-schema-org/JSON-Schema-Test-Suite "$suite"
fi
suite=$(realpath "$suite")
cd "$(dirname "$0")/../.."
JSON_SCHEMA_TEST_SUITE=$suite python -m pytest -m schema_suite tests/test_json_schema_suite.py
