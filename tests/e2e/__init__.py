"""Tests of ``hetsyn serve`` as a process: kills, restarts, and the commands of all pages."""
