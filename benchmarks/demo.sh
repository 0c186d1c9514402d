#!/bin/sh
# `make demo`: improve this repository's example skill in a copy of the repository, so that it
# can be done again and nothing of yours changes. Usage: demo.sh DIRECTORY_OF_RATCHET
set -eu
ratchet="$1/ratchet"
here=$(git rev-parse --show-toplevel)
rm -rf "$here/.demo"
git clone --quiet "$here" "$here/.demo"
cd "$here/.demo"
git checkout --quiet -B main
started=$(date +%s)
echo "A copy of this repository is in .demo/; its skill:"
echo
sed -n '/^---$/,/^---$/!p' skills/triage/SKILL.md | sed 's/^/    /'
echo
"$ratchet" run triage
echo
echo "What was merged:"
git log --reverse --format='    %h %s' "origin/HEAD..main" 2>/dev/null || git log -5 --format='    %h %s'
echo
echo "That took $(($(date +%s) - started)) s. Look further: cd .demo, and then"
echo "    ../.venv/bin/ratchet log"
echo "with log, show 1, explain 1, diff 1 or report --open; every model call is on the"
echo "branch ratchet/ledger."
