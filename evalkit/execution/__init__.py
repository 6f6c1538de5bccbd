"""Workers, and the runners that start them here, under Ray and under Slurm."""
