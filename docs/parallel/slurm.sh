#!/bin/bash
#SBATCH --job-name=xpnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

source venv/bin/activate
export XPNET_DATA=$PWD/data
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

run=runs/mnist-$SLURM_JOB_ID
if [ -e "$run/config.json" ]; then
    what="--resume $run"
else
    what="mnist --out $run"
fi
srun --mpi=pmix --kill-on-bad-exit=1 python -m mpi4py -m xpnet train $what --parallel
code=$?

if [ $code -eq 143 ]; then # SIGTERM: the time was over, and the training has been saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
