"""What runs on a host before and beside the agent: sent over the connection, standard library only, Python 3.8.

It is no part of the agent's zipapp, as it must be able to put back an older one when a newer does not run.
"""
