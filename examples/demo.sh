#!/bin/sh
# The main job from end to end: train briefly, encode, decode, report. Run it with `make demo`.
#   PHOTOS   a folder of your own photographs; without it, those that come with scikit-image
#   MINUTES  how long to train (2)
set -eu
out=${OUT:-demo}
if [ -n "${PHOTOS:-}" ]; then
    train=$PHOTOS test=$PHOTOS
    set --
else
    python "$(dirname "$0")/sample_photos.py" "$out/photos"
    train=$out/photos/train test=$out/photos/test
    set -- --val-data "$test"
fi

set -x
vqtok train "$train" -o "$out/run" --minutes "${MINUTES:-2}" --overwrite "$@"
vqtok encode "$test" -m "$out/run" -o "$out/tokens.safetensors" --overwrite
vqtok decode "$out/tokens.safetensors" -m "$out/run" -o "$out/back/" --overwrite
vqtok report "$out/tokens.safetensors" -m "$out/run" --images "$test" --html "$out/report.html" --overwrite
{ set +x; } 2>/dev/null

echo
echo "Look at:"
echo "  $out/run/pictures/          originals above reconstructions, as training went on"
echo "  $out/report.html            figures, plots, and originals beside what their tokens decode to, in a browser"
echo "  $out/back/                  the test photographs, decoded from $out/tokens.safetensors alone"
