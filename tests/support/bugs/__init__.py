"""Processes with a flaw put in on purpose: who checks the checker.

`PAYNODE_TEST_BUG=<name> python -m tests.support.bugs <verb> [<verb> …]` patches paynode in memory and runs the verbs,
several of them in one process, because starting is what takes time. paynode itself knows nothing of this.
"""
