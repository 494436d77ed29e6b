"""Where credentials come from: a chain of sources, the first that has what is asked for wins.

``chain`` has the protocol and the chain, ``sources`` the sources without a format of their own and
the order of all, ``aws`` what the AWS programs use.
"""
