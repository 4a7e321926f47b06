#!/bin/sh
# The main job on data that comes with scikit-learn: three methods, two label counts, five and two seeds, one table.
set -e
MMCTL=${MMCTL:-mmctl}
SEEDS=${SEEDS:-0-4}
FEWER=${FEWER:-0-1}   # of the second panel, so that all of it ends within three minutes on two cores
MMCTL_RUNS=${MMCTL_RUNS:-runs/demo-$(date +%Y%m%d-%H%M%S)}
export MMCTL_RUNS
here=$(dirname "$0")
seeds=$SEEDS
for labels in 40 20; do
    echo "== $labels labels of 1297 pictures"
    $MMCTL run "$here/digits.toml" "$here/digits-mixmatch.toml" "$here/digits-supervised.toml" \
        --seeds "$seeds" --set split.labels=$labels --jobs 2
    seeds=$FEWER
done
echo
$MMCTL compare
echo
echo "All runs are in $MMCTL_RUNS. Next:"
echo "  export MMCTL_RUNS=$MMCTL_RUNS"
echo "  $MMCTL ls"
echo "  $MMCTL show @last"
echo "  $MMCTL evaluate @last"
