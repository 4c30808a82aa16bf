"""This machine: home folder, files, locks, job slots, threads, helper processes, precision, secrets."""
