#!/usr/bin/env bash
# Evaluates and judges, the same way in every CI system: action.yml and gitlab.yml call this.
# By environment:
#   BUDGET        the TOML file with the budgets (docs/gate.md); needed
#   EXPERIMENT    a file, or the name of one that ships; default: quick
#   ARMS          NAME=COLLECTORS, one a line, instead of the experiment's arms
#   WORKLOADS     names, one a line, instead of the experiment's workloads
#   AGAINST       a stored run for max_increase: RUN, report.json or GITREF:PATH
#   CERTIFICATE   this runner's certificate.json, from `harness calibrate`; it is copied to OUTPUT
#   INCONCLUSIVE  pass or fail: what an inconclusive verdict counts as; default: exit code 3
#   LINK          where the report can be read later, for the comment
#   OUTPUT        folder for everything that is written; default: overhead-gate
#   HARNESS       the program; default: this checkout's, else the one on PATH
# Exit code: 0 pass, 1 fail, 2 error, 3 inconclusive, 130 interrupted. In OUTPUT: comment.md,
# gate.xml (JUnit), gate.json and the run with its report.html.
set -euo pipefail

status=2 # whatever ends this script before there is a verdict is an error, and never a fail
foreign=no
finish() {
    own || status=2
    exit "$status"
}
own() { # give back to the user what root wrote
    [ "$foreign" = yes ] || return 0
    foreign=no
    sudo -n chown -R "$(id -u):$(id -g)" "$output"
}
trap finish EXIT
trap 'status=130; exit' INT TERM

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
harness=${HARNESS:-$here/../.venv/bin/harness}
[ -n "${HARNESS:-}" ] || [ -x "$harness" ] || harness=$(command -v harness || true)
output=${OUTPUT:-overhead-gate}
name="$(date -u +%Y%m%d-%H%M%S)-$$"
run="$output/$name"
comment="$output/comment.md" junit="$output/gate.xml" json="$output/gate.json"
if [ -z "${BUDGET:-}" ]; then
    echo "BUDGET must name the file with the budgets." >&2
    exit
fi
if [ -z "$harness" ]; then
    echo "There is no harness, neither in this checkout (make setup) nor on PATH." >&2
    exit
fi

options() { # options FLAG LINES: FLAG before each line that is not empty
    while IFS= read -r line; do
        line=${line#"${line%%[![:space:]]*}"}
        line=${line%"${line##*[![:space:]]}"}
        [ -z "$line" ] || found+=("$1" "$line")
    done <<<"$2"
}

evaluate() { # as root, which eBPF needs; the judging does not
    evaluated=0
    if [ "$(id -u)" = 0 ]; then
        "$harness" evaluate "$@" || evaluated=$?
    else
        foreign=yes
        sudo -n "$harness" evaluate "$@" || evaluated=$?
        own
    fi
    if [ "$evaluated" = 130 ]; then
        status=130
        exit
    fi
}

mkdir -p "$output"
rm -f "$comment" "$junit" "$json"
judging=(--budget "$BUDGET")
[ -z "${AGAINST:-}" ] || judging+=(--against "$AGAINST")
"$harness" gate --check "${judging[@]}" # a mistake in it is to be told before anything is measured
if [ -n "${CERTIFICATE:-}" ] && ! [ "$CERTIFICATE" -ef "$output/certificate.json" ]; then
    cp "$CERTIFICATE" "$output/certificate.json"
fi

found=()
options --arm "${ARMS:-}"
options --workload "${WORKLOADS:-}"
evaluate "${EXPERIMENT:-quick}" "${found[@]}" --reports "$output" --run "$name" --quiet
if [ "$evaluated" = 2 ] && [ -e "$run/report.json" ]; then
    evaluate --resume "$run" --quiet # trials that failed get one more chance
fi
whole=yes
case $evaluated in
    0 | 3) ;; # 3: no trial was usable, which the gate calls inconclusive, with the reasons
    *)
        whole=no
        [ -e "$run/report.json" ] || exit
        ;;
esac

judging+=(--markdown "$comment" --junit "$junit" --json-file "$json")
[ -z "${INCONCLUSIVE:-}" ] || judging+=(--inconclusive "$INCONCLUSIVE")
[ -z "${LINK:-}" ] || judging+=(--link "$LINK")
code=0
"$harness" gate "$run" "${judging[@]}" || code=$?
case $code in
    0 | 1 | 3) [ ! -e "$json" ] || verdict=$code ;;
esac
if [ "$whole" = no ]; then
    [ "${verdict:-}" = 1 ] || verdict=2 # what is shown to be broken stays so
    missing="Some trials could not be measured: this is an error, unless the others show a failure."
    echo "$missing" >&2
    [ ! -e "$comment" ] || printf '\n**%s**\n' "$missing" >>"$comment"
fi
verdict=${verdict:-2}
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    {
        echo "exit-code=$verdict"
        echo "run=$run"
        [ ! -e "$comment" ] || echo "comment=$comment"
        [ ! -e "$junit" ] || echo "junit=$junit"
        [ ! -e "$json" ] || echo "json=$json"
    } >>"$GITHUB_OUTPUT"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -e "$comment" ]; then
    cat "$comment" >>"$GITHUB_STEP_SUMMARY"
fi
status=$verdict
