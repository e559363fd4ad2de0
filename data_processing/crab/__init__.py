"""CRAB: tasks that skim and score on the grid, and the job that they run there."""
