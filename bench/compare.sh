#!/usr/bin/env bash
# Compares the Go benchmarks of two commits: compare.sh OLD NEW. They run in
# turns, COUNT times each, so that a slow minute of the machine hits both.
#
#   COUNT      runs of each commit, 10
#   PACKAGES   whose benchmarks, "./handoff ./internal/..."
#   BENCHTIME  of each benchmark, 100ms
set -euo pipefail

if [ $# -ne 2 ]; then
	printf 'usage: %s OLD NEW    two commits; see the head of this file for COUNT, PACKAGES, BENCHTIME\n' "$0" >&2
	exit 2
fi
cd "$(dirname "$0")/.."
for commit in "$1" "$2"; do
	git rev-parse --quiet --verify "$commit^{commit}" >/dev/null || { printf '%s is no commit of this repository\n' "$commit" >&2; exit 2; }
done

dir=$(mktemp -d)
cleanup() {
	git worktree remove --force "$dir/old" 2>/dev/null || true
	git worktree remove --force "$dir/new" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

git worktree add --quiet --detach "$dir/old" "$1"
git worktree add --quiet --detach "$dir/new" "$2"
for ((i = 1; i <= ${COUNT:-10}; i++)); do
	printf 'run %d of %d\n' "$i" "${COUNT:-10}" >&2
	for side in old new; do
		# shellcheck disable=SC2086 # PACKAGES are several words
		(cd "$dir/$side" && go test -run '^$' -bench . -benchtime "${BENCHTIME:-100ms}" ${PACKAGES:-./handoff ./internal/...}) >>"$dir/$side.txt"
	done
done
go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da "$dir/old.txt" "$dir/new.txt"
