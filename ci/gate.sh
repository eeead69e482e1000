#!/usr/bin/env bash
# Evaluates and judges, the same way in every CI system: action.yml and gitlab.yml call this.
# By environment:
#   BUDGET        the TOML file with the budgets (docs/gate.md); needed
#   EXPERIMENT    a file, or the name of one that ships; default: quick
#   ARMS          NAME=COLLECTORS, one a line, instead of the experiment's arms
#   WORKLOADS     names, one a line, instead of the experiment's workloads
#   AGAINST       a stored run for max_increase: RUN, report.json or GITREF:PATH
#   INCONCLUSIVE  pass or fail: what an inconclusive verdict counts as; default: exit code 3
#   LINK          where the report can be read later, for the comment
#   OUTPUT        folder for everything that is written; default: overhead-gate
#   HARNESS       the program; default: the one on PATH, else this checkout's
# Exit code: 0 pass, 1 fail, 2 error, 3 inconclusive. In OUTPUT: comment.md, gate.xml (JUnit),
# gate.json and the run with its report.html.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
harness=${HARNESS:-$(command -v harness || echo "$here/../.venv/bin/harness")}
output=${OUTPUT:-overhead-gate}
run="$output/$(date -u +%Y%m%d-%H%M%S)-$$"
if [ -z "${BUDGET:-}" ]; then
    echo "BUDGET must name the file with the budgets." >&2
    exit 2
fi

options() { # options FLAG LINES: FLAG before each line that is not empty
    while IFS= read -r line; do
        line=${line#"${line%%[![:space:]]*}"}
        line=${line%"${line##*[![:space:]]}"}
        [ -z "$line" ] || found+=("$1" "$line")
    done <<<"$2"
}

root=() # eBPF needs root; the judging does not
[ "$(id -u)" = 0 ] || root=(sudo -n)
mkdir -p "$output"
found=()
options --arm "${ARMS:-}"
options --workload "${WORKLOADS:-}"
evaluated=0
"${root[@]}" "$harness" evaluate "${EXPERIMENT:-quick}" "${found[@]}" \
    --reports "$output" --run "$(basename "$run")" --quiet || evaluated=$?
[ "$(id -u)" = 0 ] || sudo -n chown -R "$(id -u):$(id -g)" "$output"
case $evaluated in
    0 | 3) ;; # 3: no trial was usable, which the gate calls inconclusive, with the reasons
    *) exit "$evaluated" ;;
esac

found=(--markdown "$output/comment.md" --junit "$output/gate.xml" --json-file "$output/gate.json")
[ -z "${AGAINST:-}" ] || found+=(--against "$AGAINST")
[ -z "${INCONCLUSIVE:-}" ] || found+=(--inconclusive "$INCONCLUSIVE")
[ -z "${LINK:-}" ] || found+=(--link "$LINK")
code=0
"$harness" gate "$run" --budget "$BUDGET" "${found[@]}" || code=$?
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    {
        echo "exit-code=$code"
        echo "run=$run"
        echo "comment=$output/comment.md"
        echo "junit=$output/gate.xml"
        echo "json=$output/gate.json"
    } >>"$GITHUB_OUTPUT"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -e "$output/comment.md" ]; then
    cat "$output/comment.md" >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"
