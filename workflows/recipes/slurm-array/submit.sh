#!/bin/bash
# Submits the parts of a run as an array, and the stitching for when all of them are done.
# Usage: submit.sh PARTS RASTER OUT.zarr [options of eomt-batch run]
set -euo pipefail
if (($# < 3)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 PARTS RASTER OUT.zarr [options of eomt-batch run]" >&2
  exit 2
fi
here=$(dirname "$0")
array=$(sbatch --parsable --array="0-$(($1 - 1))" "$here/part.sbatch" "$@")
stitch=$(sbatch --parsable --dependency="afterok:$array" "$here/stitch.sbatch" "$3")
echo "parts: job $array (0 to $(($1 - 1))), stitching: job $stitch"
