#!/bin/sh
# The main job from end to end, with the checkpoint that ships: encode, decode, report. Run it with `make demo`.
#   PHOTOS  a folder of your own photographs; without it, those that come with scikit-image
#   MODEL   a checkpoint of your own, or another that ships (vqtok list)
set -eu
out=${OUT:-demo}
here=$(dirname "$0")
if [ -z "${PHOTOS:-}" ]; then
    PHOTOS=$out/photos
    python "$here/sample_photos.py" "$PHOTOS"
fi
set -- ${MODEL:+-m "$MODEL"}

set -x
vqtok encode "$PHOTOS" "$@" -o "$out/tokens.safetensors" --overwrite
vqtok decode "$out/tokens.safetensors" "$@" -o "$out/back/" --overwrite
vqtok report "$out/tokens.safetensors" "$@" --images "$PHOTOS" --html "$out/report.html" --overwrite
{ set +x; } 2>/dev/null
if [ "$PHOTOS" = "$out/photos" ]; then
    python "$here/pairs.py" "$PHOTOS" "$out/back" -o "$out/pairs.png"
fi

echo
echo "Look at:"
[ "$PHOTOS" != "$out/photos" ] || echo "  $out/pairs.png      originals above what their tokens decode to"
echo "  $out/report.html    figures, plots, and originals beside what their tokens decode to, in a browser"
echo "  $out/back/          the photographs, decoded from $out/tokens.safetensors alone"
