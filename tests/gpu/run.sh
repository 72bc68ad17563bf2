#!/usr/bin/env bash
# Trains, evaluates and measures both frameworks on one GPU, on a machine with Python 3.12, torch and torchvision and
# without network. docs/gpu.md explains it.
#
#   tests/gpu/run.sh [--step install|parity|throughput|train|resume|summary] [--data FOLDER] [--out FOLDER] [...]
#
# --step STEP       one step; default: all of them, in the order above. What is done already is not done again.
# --data FOLDER     blood cells (TXL-PBC) as config/datasets/blood_cells.yaml describes them; default: drawn shapes
# --out FOLDER      where summary.json, summary.md, the report and the tables go (default build/gpu/out)
# --work FOLDER     environment and results between calls (default build/gpu)
# --wheels FOLDER   what wheels.sh made, whole or one part at a time (default build/gpu/wheels)
# --iterations N    of every training (default: those of the study)
# --seeds 0,1       seeds (default: those of the study)
# --jobs N          trainings at a time on the GPU (default 8; on the CPU 2)
# --minutes M       time of this call: what is under way then is stopped, and the same call goes on with it (default 30)
# --device cpu      a trial of the steps without a GPU: the tiny study; its figures are no GPU's
# --python PATH     a Python that has everything; nothing is installed
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
steps=(install parity throughput train resume summary)
step='' data='' out='' work=$project/build/gpu wheels='' iterations='' seeds='' jobs='' minutes=30 device=cuda python=''

while [ $# -gt 0 ]; do
    case $1 in
        --step | --data | --out | --work | --wheels | --iterations | --seeds | --jobs | --minutes | --device | --python) ;;
        *) echo "error: $1: unknown; the first lines of $0 say what is allowed" >&2; exit 2 ;;
    esac
    [ $# -ge 2 ] || { echo "error: $1: needs a value" >&2; exit 2; }
    declare "${1#--}=$2"
    shift 2
done
case " ${steps[*]} " in
    *" ${step:-install} "*) ;;
    *) echo "error: --step $step: unknown; allowed: ${steps[*]}" >&2; exit 2 ;;
esac
case $device in cuda | cpu) ;; *) echo "error: --device $device: allowed: cuda, cpu" >&2; exit 2 ;; esac
[[ $minutes =~ ^[1-9][0-9]*$ ]] || { echo "error: --minutes $minutes: a whole number of minutes" >&2; exit 2; }
[ -z "$data" ] || [ -f "$data/train.json" ] || { echo "error: --data $data: no train.json there" >&2; exit 2; }

mkdir -p "$work/steps"
work=$(cd "$work" && pwd)
out=${out:-$work/out}
wheels=${wheels:-$work/wheels}
venv=$work/venv
python_given=$python
python=${python:-$venv/bin/python}
export PYTHONPATH=$project OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
deadline=$((SECONDS + 60 * minutes))

if [ "$device" = cuda ]; then
    base=blood_cells_gpu gpus=1 jobs=${jobs:-8}
    # One GPU: the first, or the first of those that are named.
    CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
    export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES%%,*}
    dataset=${data:+blood_cells}
    dataset=${dataset:-shapes}
else
    base=tiny gpus=0 jobs=${jobs:-2} iterations=${iterations:-12}
    dataset=few_shapes
    export CUDA_VISIBLE_DEVICES=
fi
[ -z "$data" ] || BLOOD_CELLS_ROOT=$(cd "$data" && pwd)
export BLOOD_CELLS_ROOT=${BLOOD_CELLS_ROOT:-}
name=gpu_run
study=$work/$name.yaml

# limited COMMAND...: stopped as by Ctrl-C when the time of this call is up, which returns 3.
limited() {
    local left=$((deadline - SECONDS)) code=0
    [ "$left" -gt 0 ] || { echo "time is up; the same call goes on"; return 3; }
    timeout --signal=INT --kill-after=15 "$left" "$@" || code=$?
    # 137 is also the end of a command that the system killed for its memory.
    if [ "$code" -eq 124 ] || { [ "$code" -eq 137 ] && [ "$SECONDS" -ge "$deadline" ]; }; then
        echo "time is up; the same call goes on"
        return 3
    fi
    return "$code"
}

pipeline() {
    limited "$python" -m snakemake --snakefile "$project/Snakefile" --directory "$work" \
        --workflow-profile "$project/profiles/default" --nolock --cores "$jobs" --config "study=$study" -- "$@"
}

# Use of the GPU twice a second while a step runs, with the time of day.
sampler=
sample() {
    [ "$device" = cuda ] && command -v nvidia-smi > /dev/null || return 0
    nvidia-smi -i "$CUDA_VISIBLE_DEVICES" --format=csv,noheader,nounits -lms 500 \
        --query-gpu=timestamp,utilization.gpu,memory.used,power.draw,clocks.sm >> "$work/steps/gpu-$1.csv" &
    sampler=$!
}
stop_sampling() {
    [ -z "$sampler" ] || kill "$sampler" 2> /dev/null || true
    sampler=
}
trap stop_sampling EXIT

step_install() {
    if [ -n "$python_given" ]; then
        "$python" -m cascadebench doctor
        return
    fi
    # Without pip in it, and with the folder of torch named: where python3 is an environment itself, the switch for the
    # system's packages would not reach what is installed in it.
    [ -x "$venv/bin/python" ] || python3 -m venv --system-site-packages --without-pip "$venv"
    local site
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    python3 -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' > "$site/torch_of_this_machine.pth"
    local found=() detectron2=''
    while IFS= read -r wheel; do
        case $wheel in */sal_detectron2-*) detectron2=$wheel ;; *) found+=("$wheel") ;; esac
    done < <(find "$wheels" -name '*.whl' 2> /dev/null | sort)
    if [ ${#found[@]} -gt 0 ]; then
        python3 -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check --no-index --no-deps \
            "${found[@]}"
    fi
    # Its wheel is tagged for another Python (see detectron2.lock), so it is unpacked as it is.
    [ -z "$detectron2" ] || "$venv/bin/python" -m zipfile -e "$detectron2" "$site"
    echo "installed ${#found[@]} wheels${detectron2:+ and Detectron2}"
    # With the first of several parts something is missing yet, and the next call brings it.
    "$venv/bin/python" "$project/tests/gpu/choose_wheels.py" missing "$project/requirements.lock"
    "$venv/bin/python" -m cascadebench doctor
}

step_parity() {
    [ -f "$work/steps/parity.json" ] && { echo "parity: done already"; return; }
    limited "$python" "$project/tests/gpu/device_parity.py" --device "$device" --out "$work/steps/parity.json"
}

step_throughput() {
    pipeline prepare
    limited "$python" "$project/tests/gpu/throughput.py" --study "$study" --work "$work" --gpus "$gpus" \
        --iterations "$([ "$device" = cuda ] && echo 60 || echo 4)"
}

step_train() {
    echo "{\"jobs\": $jobs}" > "$work/steps/train.json"
    pipeline
}

step_resume() {
    [ -f "$work/steps/resume.json" ] && { echo "resume: done already"; return; }
    pipeline prepare
    limited "$python" "$project/tests/gpu/kill_and_resume.py" --study "$study" --work "$work" --gpus "$gpus" \
        --iterations "$([ "$device" = cuda ] && echo 60 || echo 8)"
}

step_summary() {
    "$python" "$project/tests/gpu/summarize.py" --study "$study" --work "$work" --out "$out" --device "$device"
}

make_study() {
    "$python" "$project/tests/gpu/study_for_gpu.py" "$study" --base "$base" --gpus "$gpus" --dataset "$dataset" \
        ${iterations:+--iterations "$iterations"} ${seeds:+--seeds "$seeds"}
}

failed=0
for one in "${steps[@]}"; do
    [ -z "$step" ] || [ "$step" = "$one" ] || continue
    echo "== $one"
    [ "$one" = install ] || make_study
    sample "$one"
    # In a subshell of its own, whose first failure ends the step and not the others: the summary says what is missing.
    set +e
    (set -e; "step_$one")
    code=$?
    set -e
    stop_sampling
    if [ "$code" -ne 0 ]; then
        echo "== $one ended with exit code $code"
        failed=$code
        [ "$one" != install ] || break
    fi
done
exit "$failed"
