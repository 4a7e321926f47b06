#!/bin/sh
# The main job on data that comes with scikit-learn: three methods, five seeds, two label counts, one table.
set -e
MMCTL=${MMCTL:-mmctl}
SEEDS=${SEEDS:-0-4}
MMCTL_RUNS=${MMCTL_RUNS:-runs/demo-$(date +%Y%m%d-%H%M%S)}
export MMCTL_RUNS
here=$(dirname "$0")
for labels in 40 20; do
    echo "== $labels labels of 1297 pictures"
    $MMCTL run "$here/digits.toml" "$here/digits-mixmatch.toml" "$here/digits-supervised.toml" \
        --seeds "$SEEDS" --set split.labels=$labels --jobs 2
done
echo
$MMCTL compare
echo
echo "All runs are in $MMCTL_RUNS. Next:"
echo "  export MMCTL_RUNS=$MMCTL_RUNS"
echo "  $MMCTL ls"
echo "  $MMCTL show @last"
echo "  $MMCTL evaluate @last"
