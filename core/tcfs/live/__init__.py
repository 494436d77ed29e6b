"""Events between devices: hints that there is something new in the ledger.

Nothing that arrives here is believed. It only makes a device look at the ledger sooner, where
everything is signed; whatever is lost, forged, repeated or late costs time and nothing else.
"""
