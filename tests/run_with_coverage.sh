#!/bin/sh
# Runs the tests under coverage, then the report with its limit; pytest's own summary comes last.
# Usage: sh tests/run_with_coverage.sh BIN [OPTION...]: the folder with python and coverage, and what pytest is told.
set -eu
bin=$1
shift
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT

"$bin/coverage" erase
status=0
{ "$bin/coverage" run -m pytest "$@" 2>&1 || echo $? >"$summary.status"; } | tee "$summary"
if [ -f "$summary.status" ]; then
    status=$(cat "$summary.status")
    rm -f "$summary.status"
fi

"$bin/coverage" combine --quiet
covered=0
"$bin/coverage" report || covered=$?
tail -n 1 "$summary"
[ "$status" -ne 0 ] || status=$covered
exit "$status"
