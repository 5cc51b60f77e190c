#!/bin/sh
# The ordinary build of jq. It knows nothing of capsules; it notes in builds.log that it was run.
set -eu
here=$PWD
echo "built from scratch" >> builds.log
rm -rf objects out
mkdir objects
cd objects
{
  ../jq-1.8.2/configure --quiet --prefix="$here/out" --with-oniguruma=builtin --disable-static CFLAGS=-O2
  make -j2 install
} > build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
cd ..
rm -rf objects
echo "made $(out/bin/jq --version) from $(find jq-1.8.2 -name '*.c' | wc -l) C files"
