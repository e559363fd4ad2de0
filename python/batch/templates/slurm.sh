#!/bin/bash
#SBATCH --job-name={{ tag }}-{{ name }}
#SBATCH --output={{ output }}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={{ resources.cores }}
#SBATCH --mem={{ resources.memory }}M
#SBATCH --time={{ minutes }}
#SBATCH --signal=B:USR1@30
{% if resources.gpus -%}
#SBATCH --gres=gpu:{{ resources.gpus }}
{% endif -%}
{% if partition -%}
#SBATCH --partition={{ partition }}
{% endif -%}
{% if account -%}
#SBATCH --account={{ account }}
{% endif -%}
{% for line in lines -%}
{{ line }}
{% endfor -%}
# One number of this array is one line of {{ name }}.jobs, the name of a job.
job=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {{ name }}.jobs)
export NANOML_BATCH_ID=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
end() {
    kill -TERM "$process" 2> /dev/null
    wait "$process"
    exit 143
}
rm -f "results/$job.late"
trap end TERM
trap 'touch "results/$job.late"; end' USR1 # comes before the time is up
for try in {0..{{ retries }}}; do
    {{ launch | shell }} bash job.sh "$job" {{ resources.cores }} > "logs/$job.log" 2>&1 &
    process=$!
    wait "$process"
    code=$?
    [ "$code" = 0 ] || [ "$code" = {{ permanent }} ] || [ "$try" = {{ retries }} ] && break
    sleep $((10 * try + 1)) &
    wait $!
done
exit "$code"
