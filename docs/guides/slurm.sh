#!/bin/bash
# Trains a recipe on several GPUs of several nodes; what lowrank fit takes besides may follow.
#   sbatch docs/guides/slurm.sh glmha/restormer_rain13k.yaml --config attention/glmha.yaml --data.root DIR
# One task a GPU. Lower max_batch_per_device in the recipe, or here, if a GPU is too small for it.
#SBATCH --job-name=lowrank
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=9
#SBATCH --time=24:00:00
# Two minutes before its time is up the run saves where it is and queues itself again. When it is preempted (SIGTERM) it
# saves and ends; where PreemptMode is REQUEUE, SLURM queues it again.
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

recipe=${1:?usage: sbatch docs/guides/slurm.sh RECIPE [options of lowrank fit]}
shift
# Tasks share a node's cores: each computes with one and loads data with the others.
export OMP_NUM_THREADS=1
# A task that dies ends the others. srun does not take the cores of a task over from the job.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" lowrank fit --config "$recipe" \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.strategy ddp "$@"
