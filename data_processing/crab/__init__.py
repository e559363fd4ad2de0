"""CRAB, as a batch system: tasks that skim and score on the grid, its client, and the job that they run there."""
