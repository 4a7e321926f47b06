#!/bin/sh
# The main job on data that comes with scikit-learn: three methods, two label counts, five and two seeds, one table.
# The runs are the project's own, with the tag demo; what is computed already is not computed again.
set -e
MMCTL=${MMCTL:-mmctl}
SEEDS=${SEEDS:-0-4}
FEWER=${FEWER:-0-1}   # of the second panel, so that all of it ends within three minutes on two cores
here=$(dirname "$0")
seeds=$SEEDS
for labels in 40 20; do
    echo "== $labels labels of 1297 images"
    $MMCTL run "$here/digits-supervised.toml" "$here/digits-mixmatch.toml" "$here/digits.toml" \
        --seeds "$seeds" --set split.labels=$labels --tag demo --jobs 2
    seeds=$FEWER
done
echo
$MMCTL compare tag:demo --baseline digits-supervised
cat <<END

What to type next:
  $MMCTL ls tag:demo                    the runs of this table
  $MMCTL show @last                     one run: its curves, evaluations and settings
  $MMCTL recipe show digits             what MarginMix does in a step, and every value of the recipe
  $MMCTL run digits/fixmatch --seeds 0-4 --tag demo     another method; then compare again
  $MMCTL recipe list                    all recipes
END
