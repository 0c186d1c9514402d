#!/bin/sh
# The loop on labelled messages of your own: import 4 labels (40 train, 40 held-out cases), start
# from a vague skill, and let the embedded model and the LLM-free proposer work on it.
# Usage: labelled.sh FILE.csv LABEL LABEL LABEL LABEL   (the columns are called text and label)
set -eu
file=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
ratchet=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/ratchet
work=$(mktemp -d)
cd "$work"
git init --quiet --initial-branch=main
mkdir -p skills/intent
printf '%s\n' '---' 'name: intent' 'description: Sorts a message of a bank customer by intent.' \
    '---' '' '# Intent' '' 'Say what the customer wants.' > skills/intent/SKILL.md
cat > ratchet.yml <<'EOF'
provider: local
max_tokens: 12
options: {stop: ["\n"]}
meta: {proposer: examples}
skills:
  intent:
    scorer: label
EOF
for label in "$@"; do set -- "$@" --label "$label"; shift; done
"$ratchet" import "$file" --skill intent --input text --expected label "$@" --train 40 --holdout 40
git add -A && git -c user.name=Benchmark -c user.email=benchmark@example.com commit --quiet -m start
"$ratchet" eval intent --split holdout
"$ratchet" run intent --attempts "${ATTEMPTS:-5}"
"$ratchet" eval intent --split holdout
echo "The repository is in $work"
