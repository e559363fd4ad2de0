#!/bin/bash
# Scores the reference events of the models in data/ by C++: they are the scores that Python had when it exported them.
set -eu
cd "$(dirname "$0")"
scores=${1:-testMLToolsNanoMLScores}
events=$(mktemp)
trap 'rm -f "$events"' EXIT
for model in ../data/*.onnx; do
    python3 reference_events.py "${model%.onnx}.json" >"$events"
    difference=$("$scores" "$events")
    echo "$model: $difference"
    awk -v difference="$difference" 'BEGIN { exit !(difference < 1e-5) }'
done
