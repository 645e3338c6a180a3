"""The embedded default: a real PostgreSQL and a real Valkey for development and tests, supervised by paynode.

The programs come from wheels or from the machine; starting, watching and stopping them is done here, because none
of the wheels' own start code survives a killed parent: it leaves a server behind, and the next start puts a second
one on the same files.
"""
