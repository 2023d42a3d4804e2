#!/bin/bash
# Trains and evaluates the rows of a table, each as a task of an array; lowrank reproduce NAME --plan numbers them.
#   sbatch --array=1-5 docs/guides/slurm_array.sh glmha-table7 --data.root DIR
# One GPU a task. Lower max_batch_per_device by --changes FILE, a recipe, if a GPU is too small.
#SBATCH --job-name=lowrank
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=9
#SBATCH --time=24:00:00
# Two minutes before its time is up the run saves where it is and queues itself again, as by slurm.sh.
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" lowrank reproduce "$@" --run --job "$SLURM_ARRAY_TASK_ID"
